"""Tiny checkpoints of other programs, made by their own classes, with the log-probabilities that these compute.

`python -m support.foreign.make FOLDER` makes them, in an environment with transformers and ctranslate2; the tests read
`tests/export/imports/checkpoints`, which it made, and need neither.
"""
