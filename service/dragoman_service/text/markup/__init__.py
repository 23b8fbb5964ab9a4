"""Documents with markup: cut into blocks of text, and put together from their translations. Pure functions.

Begin with `document.py`; `placement.py` says where tags go in a translation.
"""
