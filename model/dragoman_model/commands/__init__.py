"""The commands of `dragoman` that train, evaluate and make text. They import what they need when they run.

Begin with `train`.
"""
