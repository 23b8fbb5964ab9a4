"""Training text: reading, cleaning, augmenting, mixing, tokenising, caching and batching. Imports recipes, no training.

Begin with `prepare`, which leads from a recipe to batches; `corpus` reads and cleans.
"""
