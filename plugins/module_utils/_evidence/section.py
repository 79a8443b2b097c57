# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What every source of evidence returns: its data, and what it could not tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Gap:
    """Something not read. what: which part, e.g. ``firewall.nft``. why: one line for the operator."""

    what: str
    why: str

    def to_dict(self) -> dict[str, str]:
        return {"what": self.what, "why": self.why}


@dataclass
class Section:
    """data: JSON-able facts. gaps: parts of them that could not be read. A section with gaps is never "no problem".

    nothing: not one part could be read; what data there is only says that.
    """

    data: Any
    gaps: list[Gap] = field(default_factory=list)
    nothing: bool = False

    def gap(self, what: str, why: str) -> None:
        self.gaps.append(Gap(what, why))
