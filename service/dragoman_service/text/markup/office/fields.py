"""Fields of DOCX: their marks, such as `begin`, as what encloses text, or as what says something itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dragoman_service.text.markup.inline import Kind
from dragoman_service.text.markup.office.runs import Item, Role

INSTRUCTION = "instruction"
"""The group of the code of a field; that of its marks is `begin`, `separate` and `end`."""
_LINK = re.compile(r"\s*+HYPERLINK\b", re.IGNORECASE)


@dataclass(slots=True)
class _Field:
    begin: int
    around: int
    """Number of what encloses it."""
    separate: int | None = None
    end: int | None = None


def without_fields(items: Sequence[Item], instructions: dict[int, str]) -> list[Item]:
    """A paragraph in which each field is a mark, and links enclose their text.

    The marks of a field that goes on in other paragraphs divide the text, so that they keep their order.

    Args:
        items: Of the paragraph.
        instructions: By the index of an item: the code of a field.
    """
    if not any(it.role is Role.FIELD for it in items):
        return list(items)
    fields = _fields(items)
    is_whole = all(it.end is not None for it in fields.values()) and _all_found(items, fields)
    found: list[Item] = []
    ends: set[int] = set()
    number = 0
    while number < len(items):
        item, field = items[number], fields.get(number)
        last = number
        if number in ends:
            found.append(Item(Role.CLOSES, "", whole=(_raw(item),)))
        elif field is not None and field.end is not None:
            if field.separate is not None and _is_link(items, field, instructions):
                last = field.separate
                ends.add(field.end)
                found.append(Item(Role.OPENS, "", whole=_raws(items[number : last + 1])))
            else:
                last = field.end
                group = "" if is_whole else "field"
                found.append(Item(Role.MARK, "", kind=Kind.CODE, group=group, whole=_raws(items[number : last + 1])))
        elif field is not None and field.separate is not None:
            last = field.separate
            whole = _raws(items[number : last + 1])
            found.append(Item(Role.MARK, "", kind=Kind.BR, group="field", whole=whole))
        elif item.role is Role.FIELD:
            found.append(replace(_raw(item), kind=Kind.BR, group="field"))
        else:
            found.append(item)
        number = last + 1
    return found


def _fields(items: Sequence[Item]) -> dict[int, _Field]:
    """By the index of its beginning: each field whose marks are in the same element, as far as it is found."""
    found: dict[int, _Field] = {}
    opened: list[_Field] = []
    around = [-1]
    for number, item in enumerate(items):
        if item.role is Role.OPENS:
            around.append(number)
        elif item.role is Role.CLOSES:
            around.pop()
        elif item.role is Role.FIELD and item.group == "begin":
            opened.append(_Field(number, around[-1]))
            found[number] = opened[-1]
        elif item.role is Role.FIELD and opened and item.group in ("separate", "end"):
            field = opened[-1]
            if item.group == "end":
                opened.pop()
            if field.around != around[-1]:
                continue
            if item.group == "end":
                field.end = number
            elif field.separate is None:
                field.separate = number
    return found


def _all_found(items: Sequence[Item], fields: dict[int, _Field]) -> bool:
    return sum(it.role is Role.FIELD and it.group == "end" for it in items) == len(fields)


def _is_link(items: Sequence[Item], field: _Field, instructions: dict[int, str]) -> bool:
    assert field.separate is not None
    code = "".join(instructions.get(number, "") for number in range(field.begin, field.separate))
    return _LINK.match(code) is not None


def _raws(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(part for item in items for part in _flat(item))


def _flat(item: Item) -> Iterator[Item]:
    yield from (item.whole or (_raw(item),))


def _raw(item: Item) -> Item:
    return replace(item, role=Role.MARK) if item.role is Role.FIELD else item
