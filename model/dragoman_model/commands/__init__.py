"""The commands of `dragoman` for training, evaluation and training text. Heavy imports are made when a command runs.

Begin with `train`.
"""
