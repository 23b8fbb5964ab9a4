"""Numbers beside spans: a number and its unit are one thing, such as "100 €" and "5 m²".

A model that reads "100 4711" or "5 4711" takes both for a number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from dragoman_service.text.spans import Kind, Span

_NUMBER_BEFORE = re.compile(r"(?<![\w.,])[0-9]+(?:[.,][0-9]+)*[ \u00a0\u202f]?\Z")
_NUMBER_AFTER = re.compile(r"[ \u00a0\u202f]?[0-9]+(?:[.,][0-9]+)*(?![\w])")
_LONGEST = 32
"""Characters of a number that are looked for."""


def with_quantities(text: str, spans: Sequence[Span]) -> list[Span]:
    """The spans of a sentence, of which signs of currency and raised or lowered digits have the number beside them."""
    found: list[Span] = []
    for number, span in enumerate(spans):
        content = text[span.start : span.end]
        is_currency = span.kind is Kind.SYMBOL and all(unicodedata.category(it) == "Sc" for it in content)
        if is_currency or span.kind is Kind.NUMBER:
            begin = max(found[-1].end if found else 0, span.start - _LONGEST)
            before = _NUMBER_BEFORE.search(text, begin, span.start)
            until = spans[number + 1].start if number + 1 < len(spans) else len(text)
            after = None if before or not is_currency else _NUMBER_AFTER.match(text, span.end, until)
            if before or after:
                start, end = (before.start() if before else span.start), (after.end() if after else span.end)
                found.append(Span(start, end, Kind.NUMBER))
                continue
        found.append(span)
    return found
