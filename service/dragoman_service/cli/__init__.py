"""The command line: arguments in, exit codes out. May import every room; nothing imports it but other command lines.

Begin with `main`, which finds the commands; `serve` turns arguments into settings and starts a server.
"""
