"""Checkpoints of other programs, imported as bundles: Hugging Face Transformers, CTranslate2, Argos and Marian.

`formats` reads files of tensors, lazily. `families` knows what their tensors and switches are called. Nothing of a
checkpoint is executed. Begin with `importer` and `read`.
"""
