"""What benchmarks measure with: turns and tables, calls, load, servers. Knows no competitor.

Begin with `common`.
"""
