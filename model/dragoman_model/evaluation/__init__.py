"""Translation and scoring of test sets with checkpoints, bundles and running servers, and reference decoders.

Begin with `evaluate`. `reference_decode` is the slow reference implementation that all faster decoding must agree with.
"""
