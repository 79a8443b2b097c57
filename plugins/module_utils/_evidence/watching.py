# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the modules that watch for a while take and return."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section

MAX_SECONDS = 300.0
ARGUMENTS: dict[str, Any] = {
    "seconds": {"type": "float", "default": 5.0},
    "source": {"type": "str", "choices": ["auto", "bpftrace", "tracefs"], "default": "auto"},
}


def seconds(params: dict[str, Any]) -> float:
    """Raises ValueError for a window that is not allowed."""
    wanted = float(params["seconds"])
    if not 0 < wanted <= MAX_SECONDS:
        raise ValueError(f"seconds is {wanted:g}; allowed is more than 0 and at most {MAX_SECONDS:g}.")
    return wanted


def result(section: Section, key: str) -> dict[str, Any]:
    """The module's answer; ``key`` holds the list of what was seen."""
    nothing: dict[str, Any] = {"source": None, "scope": None, key: []}
    return {**(section.data or nothing), "coverage": [gap.to_dict() for gap in section.gaps]}
