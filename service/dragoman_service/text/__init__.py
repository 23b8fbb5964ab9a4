"""Pure functions of text: sentence splitting, text in capitals, language tags, detection. Imports only `errors`.

Begin with `segmenter`, and with `language_tags` for what a language is called.
"""
