"""Tools of the benchmarks: timing in turns, tables, calls, load, servers. Independent of the competitors.

Begin with `common`.
"""
