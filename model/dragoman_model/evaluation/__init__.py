"""Translating and scoring with what is not served: checkpoints in PyTorch, bundles in this process.

Begin with `evaluate`; `reference_decode` is the slow oracle that all faster decoding must agree with.
"""
