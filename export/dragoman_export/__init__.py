"""Export of a checkpoint to a verified bundle. Begin with `exporter`: `graphs` makes graphs, `verify` checks them."""
