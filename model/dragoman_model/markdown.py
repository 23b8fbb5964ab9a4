"""Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. Columns are padded, to be readable in a terminal; columns of numbers are aligned to the right.

    Cells: a string is not changed, a float gets three significant digits, and None or NaN becomes a dash.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in [list(columns), *cells])) for i in range(len(columns))]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True))
    return "\n".join([line(columns), f"|{rule}|", *map(line, cells)])


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        digits = 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(text: str) -> bool:
    return (
        text in ("", "-") or text.replace(",", "").replace(".", "").replace("x", "").replace("%", "").strip().isdigit()
    )
