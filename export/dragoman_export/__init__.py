"""From a checkpoint to a verified bundle. Begin with `exporter`; `graphs` makes the graphs, `verify` proves them."""
