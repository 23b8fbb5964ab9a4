"""Reading checkpoints of other programs: Hugging Face Transformers, CTranslate2, Argos Translate and Marian.

`formats` reads files of tensors, lazily. `families` knows what their tensors and switches are called. Nothing of a
checkpoint is executed. Begin with `read.py`, and `imported.py` for what it returns.
"""
