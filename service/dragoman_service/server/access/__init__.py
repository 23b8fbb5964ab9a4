"""Who may call what, and how much: tokens, their file, and their quotas.

Begin with `gate`, which answers who makes a call, and `caller`, which says what the call may do. `tokens` has a token
and its rights, `token_file` reads and writes the file, `quotas` counts.
"""
