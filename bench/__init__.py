"""Benchmarks: each module here is a command that prints a table. They stand on `peers` and `measure`."""
