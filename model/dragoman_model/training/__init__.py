"""Training: the loop, the loss, the optimiser, the files of a run and its progress reports. Imports `evaluation` and
`data`.

Begin with `train`, which has the loop. `run_folder` describes the files that a run writes.
"""
