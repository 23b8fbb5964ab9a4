"""The numbers that a bundle computes with.

This is the place for the others. They need more than a smaller type: int8 must scale each row's activations on its own
(one scale for the whole batch would let a translation depend on its neighbours), and both need stated bounds on what
they may lose against fp32, checked by `verify` before the manifest is written.
"""

from __future__ import annotations

from dragoman_service.errors import InvalidInput
from dragoman_service.manifest import PRECISIONS

PLANNED = ("int8", "fp16")
"""Not there yet."""


def check_precision(precision: str) -> None:
    """Refuse what cannot be exported.

    Raises:
        InvalidInput: names what can.
    """
    if precision in PRECISIONS:
        return
    note = " (this one is planned, but not there yet)" if precision in PLANNED else ""
    raise InvalidInput("precision", precision, ", ".join(PRECISIONS) + note)
