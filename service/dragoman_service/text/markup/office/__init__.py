"""Documents of offices: archives of XML.

Begin with `document`, which finds the parts with text; `docx` and `odt` read their paragraphs.
"""
