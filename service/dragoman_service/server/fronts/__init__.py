"""A server of several processes: fronts, which have the calls and their texts, an engine process, and a supervisor.

Begin with `supervisor`.
"""
