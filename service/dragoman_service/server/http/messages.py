"""Messages of Protocol Buffers from JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from dragoman_service.errors import InvalidInput
from dragoman_service.server.http.fields import Fields
from dragoman_service.server.methods import MAX_REPEATED

_IN_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_NO_FIELD = re.compile(r'has no field named "([^"]*)"')
"""In the messages of `json_format`: the way to the field, and one that there is not."""

T = TypeVar("T", bound=Message)


def message_of(fields: Fields, kind: type[T], most: Mapping[str, int]) -> T:
    """The message that an object of JSON describes.

    Args:
        fields: Names as in the .proto file, or in camel case.
        kind: The message.
        most: Maximum number of values of its repeated fields, by name.

    Raises:
        InvalidInput: it does not describe such a message, or has too many values.
    """
    _check_lengths(fields, kind.DESCRIPTOR, most)
    try:
        return json_format.ParseDict(fields, kind())
    except json_format.ParseError as error:
        message = str(error).partition("\n")[0]
        path = ".".join(_IN_FIELD.findall(message) + _NO_FIELD.findall(message))
        allowed = f"{kind.DESCRIPTOR.full_name} in the JSON mapping of Protocol Buffers"
        raise InvalidInput(path or "request", _IN_FIELD.sub("", message).rstrip("."), allowed) from None


def _check_lengths(fields: Fields, message: Any, most: Mapping[str, int], path: str = "") -> None:
    """Raise InvalidInput for a repeated field of too many values: to convert them would take long."""
    for field in message.fields:
        value = fields.get(field.json_name, fields.get(field.name))
        if isinstance(value, list) and field.is_repeated:
            limit = most.get(field.name, MAX_REPEATED)
            if len(value) > limit:
                raise InvalidInput(f"{path}{field.name}", f"more than {limit} values", f"at most {limit}")
        elif isinstance(value, dict) and field.message_type:
            _check_lengths(value, field.message_type, most, f"{path}{field.name}.")
