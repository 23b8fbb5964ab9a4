"""Who may call what, and how much: tokens, their file, and their quotas.

Begin with `gate`, which answers whether a call may go on. `tokens` has a token and its rights, `token_file` reads and
writes the file, `quotas` counts.
"""
