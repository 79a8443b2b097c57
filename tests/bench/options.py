# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every section is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"


@dataclass(frozen=True)
class Options:
    """hosts: sizes of the simulated fleets. rounds: of the A/B rounds, where a section makes them."""

    hosts: tuple[int, ...] = (1000, 5000)
    rounds: int = 5
    section: str = ""

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"[{self.section}] {text}", flush=True)
