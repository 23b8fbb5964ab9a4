"""How the next tokens are chosen, as operations on arrays of rows: beams, random draws, constraints. All pure.

Begin with `beams`.
"""
