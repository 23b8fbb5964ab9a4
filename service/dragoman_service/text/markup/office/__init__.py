"""Documents of word processors: archives (`archive`) whose parts are XML (`story`), in two vocabularies.

Begin with `office_document` in `package`.
"""
