"""The competitors of Dragoman as their users get them, and the models in the formats of all engines.

Begin with `models`.
"""
