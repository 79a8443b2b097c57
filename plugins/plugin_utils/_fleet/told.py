# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""What tasks registered on other hosts of the play, read without templating: one pass over thousands of hosts must be cheap."""

from __future__ import annotations

from typing import Any


def told(variables: dict[str, Any], host: str, name: str) -> dict[str, Any] | None:
    """What a task registered on a host; None when it did not run there, or was skipped."""
    hostvars = variables.get("hostvars")
    if hostvars is None or host not in hostvars:
        return None
    raw = hostvars.raw_get(host)
    found = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(found, dict) or found.get("skipped"):
        return None
    return found


def registered(variables: dict[str, Any], host: str, prefix: str) -> list[dict[str, Any]]:
    """What the tasks of a role registered on a host, by the beginning of their names."""
    hostvars = variables.get("hostvars")
    raw = hostvars.raw_get(host) if hostvars is not None and host in hostvars else {}
    names = [name for name in raw if name.startswith(prefix)] if isinstance(raw, dict) else []
    return [one for one in (told(variables, host, name) for name in names) if one is not None]


def groups_of(variables: dict[str, Any], host: str) -> list[str]:
    """The inventory groups of a host, without those that every host has."""
    hostvars = variables.get("hostvars")
    raw = hostvars.raw_get(host) if hostvars is not None and host in hostvars else {}
    names = raw.get("group_names") if isinstance(raw, dict) else None
    return sorted(str(one) for one in names or () if one not in ("all", "ungrouped"))
