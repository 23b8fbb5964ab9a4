"""Conversion of parsed JSON to dataclasses, with a message for every value of another type."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

MAY_BE_ABSENT = {"may_be_absent": True}
"""Metadata of a field of a dataclass that was added later: what was written before lacks it."""


def from_json(wanted: Any, value: Any, where: str, problems: list[str]) -> Any:
    """Convert parsed JSON to the type `wanted`: a dataclass, tuple[...], dict, str, bool, int or float, or one of these
    or None. Fields of a dataclass whose metadata are `MAY_BE_ABSENT` have their default if they are absent.

    Args:
        wanted: The type.
        value: The parsed JSON.
        where: Path of the value for messages, such as `limits.max_candidates`.
        problems: Receives a message for every value of another type.
    """
    origin = typing.get_origin(wanted)
    if origin is types.UnionType:
        return None if value is None else from_json(typing.get_args(wanted)[0], value, where, problems)
    if dataclasses.is_dataclass(wanted):
        return _dataclass_from_json(wanted, value, where, problems)
    if origin is tuple:
        return _tuple_from_json(typing.get_args(wanted), value, where, problems)
    if origin is dict:
        return _dict_from_json(typing.get_args(wanted)[1], value, where, problems)
    if wanted is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    if wanted is not Any and type(value) is not wanted:  # isinstance would accept True as an int
        problems.append(f"{where}: got {shown(value)}; allowed: {wanted.__name__}")
    elif isinstance(value, str) and not _is_text(value):
        problems.append(f"{where}: got {shown(value)}; allowed: text without lone surrogates")
    return value


def shown(value: Any) -> str:
    """A value as messages show it: at most 60 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
        return "something too long to be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def _tuple_from_json(arguments: tuple[Any, ...], value: Any, where: str, problems: list[str]) -> tuple[Any, ...]:
    size = None if arguments[-1] is Ellipsis else len(arguments)
    if not isinstance(value, list) or size not in (None, len(value)):
        problems.append(f"{where}: got {shown(value)}; allowed: a list{f' of {size}' if size else ''}")
        return ()
    return tuple(from_json(arguments[0], item, f"{where}[{i}]", problems) for i, item in enumerate(value))


def _dict_from_json(wanted: Any, value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        problems.append(f"{where}: got {shown(value)}; allowed: an object")
        return {}
    return {key: from_json(wanted, item, f"{where}.{key}", problems) for key, item in value.items()}


def _dataclass_from_json(wanted: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{where}: got {shown(value)}; allowed: an object")
        return None
    types_of = typing.get_type_hints(wanted)
    fields = [field for field in dataclasses.fields(wanted) if field.init]
    given = [field.name for field in fields]
    needed = [field.name for field in fields if not field.metadata.get("may_be_absent")]
    prefix = f"{where}." if where else ""
    problems += [f"{prefix}{name}: missing" for name in needed if name not in value]
    problems += [f"{prefix}{name}: unknown field" for name in value if name not in given]
    found = {name: from_json(types_of[name], value[name], prefix + name, problems) for name in given if name in value}
    return None if problems else wanted(**found)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
