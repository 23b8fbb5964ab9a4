"""The bundle: the folder of graphs, weights, tokenizer and manifest that export writes and the server loads.

Begin with `manifest`; `manifest_reader` reads and checks it, `bundle` a folder.
"""
