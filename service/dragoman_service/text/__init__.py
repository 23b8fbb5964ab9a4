"""Pure functions of text: sentences, capitals. Imports nothing but `errors`.

Begin with `segmenter`.
"""
