"""Pure functions of text: what is kept, sentence splitting, text in capitals, scripts. Imports only `errors`.

Begin with `segmenter`, which stands on `spans` (what is kept) and `sentences` (where sentences end).
"""
