"""Checks of the bytes of a message before they are parsed: parsed fields may take twenty times the memory of the bytes.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dragoman_service.errors import InvalidInput

_VARINT, _I64, _LEN, _START_GROUP, _END_GROUP, _I32 = range(6)
_FIXED = {_I64: 8, _I32: 4}


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What the bytes of a message may have."""

    repeated: Mapping[int, tuple[str, int]]
    """Number of a repeated field -> its name, and the maximum number of values."""
    max_others: int = 100
    """Maximum number of other fields, with those that this server does not know. A field may occur several times."""
    max_bytes: int | None = None
    """Maximum number of bytes."""
    nested: Mapping[int, tuple[str, MessageLimits]] = field(default_factory=dict)
    """Number of a field -> its name, and the limits of the messages in it, which have repeated fields themselves."""


def check_message(data: bytes, limits: MessageLimits, inside: str = "") -> None:
    """Raise InvalidInput for a message of too many bytes, values or fields. `inside` is its path, ending in a dot.

    Bytes that are not a valid message are left to the parser, whose error is more precise; the fields before the fault
    are within the limits.
    """
    if limits.max_bytes is not None and len(data) > limits.max_bytes:
        raise InvalidInput("request", f"{len(data)} bytes", f"at most {limits.max_bytes} bytes")
    repeated = dict.fromkeys(limits.repeated, 0)
    others = at = 0
    end = len(data)
    try:
        while at < end:
            tag, at = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if number in repeated:
                repeated[number] += 1
                name, most = limits.repeated[number]
                if repeated[number] > most:
                    raise InvalidInput(inside + name, f"more than {most} values", f"at most {most}")
            else:
                others += 1
                if others > limits.max_others:
                    allowed = f"at most {limits.max_others} besides {_names(limits)}"
                    raise InvalidInput("request", f"more than {limits.max_others} fields", allowed)
            if kind == _LEN:
                length, at = _varint(data, at)
                if number in limits.nested:
                    name, own = limits.nested[number]
                    check_message(data[at : at + length], own, f"{inside}{name}.")
                at += length
            elif kind == _VARINT:
                _, at = _varint(data, at)
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                raise InvalidInput("request", f"field {number} of wire type {kind}", "wire types 0, 1, 2 and 5")
    except IndexError:  # the message ends within a field
        return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The value of a varint at `at`, and the index after it. Raises IndexError at the end of the data."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _names(limits: MessageLimits) -> str:
    return " and ".join(name for name, _ in limits.repeated.values()) or "repeated fields"
