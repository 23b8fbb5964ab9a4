"""Training text: reading, cleaning, augmentation, mixing, tokenisation, caching and batching. Imports `recipe`, and no
training code.

Begin with `prepare`, which makes the tokenised text of a recipe. `corpus` reads and cleans.
"""
