"""What Dragoman is compared with: models in the formats of all, and each competitor as its users get it.

Begin with `models`.
"""
