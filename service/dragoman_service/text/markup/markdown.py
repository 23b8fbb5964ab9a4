from collections.abc import Generator

from dragoman_service.text.markup.document import Document


def markdown_steps(source: str) -> Generator[None, None, Document]:
    yield
    return Document((source,))
