"""Benchmarks: each module here is a command that prints a table. They use `peers` and `measure`."""
