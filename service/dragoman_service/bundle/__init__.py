"""The bundle: a folder of graphs, weights, tokenizer and manifest, the contract between export and service.

Begin with `manifest`; `bundle` reads and checks a folder.
"""
