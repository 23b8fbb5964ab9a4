"""Pure functions of text: what is kept, sentences, capitals, scripts, language tags, detection. Imports only `errors`.

Begin with `segmenter`, which stands on `spans` (what is kept) and `sentences` (where sentences end); and with
`language_tags` for what a language is called.
"""
