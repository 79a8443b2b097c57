# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What a service's unit file and drop-ins say together about its placement, and which file says it. Pure.

Drop-ins are applied by file name whatever their folder; the last assignment wins, lists grow until an empty one clears them.
(systemd.unit(5), systemd.exec(5))
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: Directives of placement; of those in LISTS each assignment adds.
KEYS = ("CPUAffinity", "NUMAPolicy", "NUMAMask", "LimitMEMLOCK")
LISTS = ("CPUAffinity", "NUMAMask")


@dataclass(frozen=True)
class Setting:
    """One assignment; value "" clears."""

    key: str
    value: str
    file: str
    line: int

    def to_dict(self) -> dict[str, Any]:
        return {"key": self.key, "value": self.value, "file": self.file, "line": self.line}

    def __str__(self) -> str:
        return f"{self.key}={self.value} ({self.file} line {self.line})"


def settings(path: str, text: str) -> list[Setting]:
    """The placement's assignments of one file, in their order."""
    found = []
    section, pending, start = "", "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not pending:
            start = number
        if line[:1] in ("#", ";"):
            continue  # also inside a continued line
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        line, pending = (pending + line).strip(), ""
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == "Service" and "=" in line:
            key, _equals, value = line.partition("=")
            if key.strip() in KEYS:
                found.append(Setting(key.strip(), " ".join(value.split()), path, start))
    return found


def order(files: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(path, text) of a unit file and its drop-ins, in any order → in the order in which systemd applies them."""
    every = list(files)
    main = [one for one in every if not os.path.dirname(one[0]).endswith(".d")]
    return main + sorted((one for one in every if one not in main), key=lambda one: os.path.basename(one[0]))


def effective(files: Iterable[tuple[str, str]]) -> dict[str, list[Setting]]:
    """Directive → assignments that are in force together; files as ``order`` gives them. A directive nobody sets is missing."""
    found: dict[str, list[Setting]] = {}
    for path, text in files:
        for setting in settings(path, text):
            if not setting.value:
                found.pop(setting.key, None)
            elif setting.key in LISTS:
                found.setdefault(setting.key, []).append(setting)
            else:
                found[setting.key] = [setting]
    return found
