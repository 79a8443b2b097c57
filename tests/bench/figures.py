# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A figure, the value it is held against, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    value and reference are of the same unit ("s", "MiB", "" for counts); the reference was measured in the same run.
    at_most limits the ratio value / reference, or the value itself where there is no reference. None: told, not judged.
    """

    name: str
    value: float
    unit: str = "s"
    reference: float | None = None
    reference_name: str = ""
    at_most: float | None = None
    detail: str = ""

    @property
    def ratio(self) -> float | None:
        """None without a reference, or with one too small to divide by."""
        return self.value / self.reference if self.reference and self.reference > 0 else None

    @property
    def met(self) -> bool | None:
        """Whether the wanted value is met; None where nothing is wanted or the ratio is not known."""
        judged = self.value if self.reference is None else self.ratio
        return None if self.at_most is None or judged is None else judged <= self.at_most

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "reference": None if self.reference is None else round(self.reference, 4),
            "reference_name": self.reference_name,
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "at_most": self.at_most,
            "met": self.met,
            "detail": self.detail,
        }


def _number(value: float, unit: str) -> str:
    if unit == "":
        return f"{value:.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f} {unit}"


def _ratio(value: float) -> str:
    return f"{value:.2f}x" if value >= 0.1 else f"{value:.3f}x"


def table(figures: Sequence[Figure]) -> str:
    """All figures, one a line."""
    rows = [("figure", "measured", "reference", "ratio", "wanted", "met")]
    for one in figures:
        reference = "" if one.reference is None else f"{_number(one.reference, one.unit)} {one.reference_name}"
        wanted = ""
        if one.at_most is not None:
            limit = _number(one.at_most, one.unit) if one.reference is None else _ratio(one.at_most)
            wanted = f"<= {limit}"
        met = {True: "yes", False: "NO", None: "" if one.at_most is None else "?"}[one.met]
        rows.append(
            (one.name, _number(one.value, one.unit), reference, "" if one.ratio is None else _ratio(one.ratio), wanted, met)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)
