"""Pure functions of text: sentence splitting, text in capitals. Imports only `errors`.

Begin with `segmenter`.
"""
