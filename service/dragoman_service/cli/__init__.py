"""The command line. May import every other package of dragoman_service; only command lines import it.

Begin with `main`, which finds the commands; `serve` turns arguments into settings and starts a server.
"""
