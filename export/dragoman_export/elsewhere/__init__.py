"""Our models as files of other programs, so that nobody has to stay: CTranslate2 and Hugging Face Transformers.

The way back of `imports`, which has the names of tensors that both ways need. None of the packages of these programs is
used. Begin with `write`.
"""
