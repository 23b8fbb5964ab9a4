"""Checkpoints of other families of translation models, imported as bundles."""
