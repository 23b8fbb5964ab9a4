"""The choice of the next tokens, as pure functions on arrays of rows: beams, random draws, constraints.

Begin with `beams`.
"""
