"""Conversion of tables of settings to dataclasses. The name and the type of every field are checked."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from typing import Any, Literal, TypeVar

from dragoman_service.errors import InvalidInput

T = TypeVar("T")


def build(kind: type[T], settings: Any, where: str) -> T:
    """Make a dataclass from a TOML table.

    Args:
        kind: The dataclass. Its fields may be dataclasses, tuples, literals and simple types.
        settings: The table.
        where: The name of the table, for error messages.

    Raises:
        InvalidInput: a field is missing or unknown, or has a value of the wrong type. The message names the field.
    """
    if not isinstance(settings, dict):
        raise InvalidInput(where, settings, "a table")
    types = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in settings:
        if name not in fields:
            raise InvalidInput(f"{where}.{name}", settings[name], f"one of the fields {', '.join(fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in settings:
            raise InvalidInput(f"{where}.{name}", None, "a value; this field is required")
    return kind(**{name: _convert(types[name], value, f"{where}.{name}") for name, value in settings.items()})


def check(where: str, value: object, good: bool, allowed: str) -> None:
    """Raise InvalidInput unless `good`. If `good` is a comparison, NaN is refused: comparisons with NaN are false."""
    if not good:
        raise InvalidInput(where, value, allowed)


def without_absent(value: Any) -> Any:
    """Settings without None and empty lists, as in TOML, where such fields are left out."""
    if isinstance(value, dict):
        return {name: without_absent(inner) for name, inner in value.items() if inner is not None and inner != []}
    if isinstance(value, list):
        return [without_absent(inner) for inner in value]
    return value


def apply_override(settings: dict[str, Any], override: str) -> None:
    """Set one field in nested tables.

    Args:
        settings: The tables, which are changed. Missing tables on the path to the field are added.
        override: `table.field=value`. The value is TOML; if it is not valid TOML, it is taken as text.

    Raises:
        InvalidInput: `override` is not of that form, or its path has a value that is not a table.
    """
    path, separator, text = override.partition("=")
    *tables, name = path.split(".")
    if not separator or not tables or not all((*tables, name)):
        raise InvalidInput("--set", override, "TABLE.FIELD=VALUE, such as training.max_steps=1000")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    values = settings
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise InvalidInput(table, values, "a table")
    values[name] = value


def _convert(wanted: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(wanted):
        return build(typing.cast("type[Any]", wanted), value, where)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is tuple:
        if not isinstance(value, list) or not value:
            raise InvalidInput(where, value, "a list that is not empty")
        return tuple(_convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            raise InvalidInput(where, value, ", ".join(map(repr, arguments)))
        return value
    accepted = tuple(argument for argument in arguments if argument is not type(None)) or (wanted,)
    if accepted == (float,) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
        raise InvalidInput(where, value, f"a value of type {' or '.join(a.__name__ for a in accepted)}")
    return value
