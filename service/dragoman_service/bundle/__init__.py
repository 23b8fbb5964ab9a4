"""The bundle: the folder of graphs, weights, tokenizer and manifest that export writes and the server loads.

Begin with `manifest`; `bundle` reads and checks a folder.
"""
