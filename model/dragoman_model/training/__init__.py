"""Training: the loop, its optimiser and loss, what a run keeps, and what it shows. Imports evaluation and data.

Begin with `train`, which has the loop; `run_folder` says what a run leaves behind.
"""
