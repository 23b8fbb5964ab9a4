"""From texts to requests of the engine, and from its answers back to texts. Imports repository and what lies below it.

Begin with `frontend`, the way of a call; `prepare` has the pure functions that it uses.
"""
