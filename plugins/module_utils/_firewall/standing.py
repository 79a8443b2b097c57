# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""How a host stands beside others, and beside what was planned and applied there. Only reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._firewall import fingerprint
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Ruleset
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, rollback

STANDS, CHANGED, NOTHING = "stands", "changed", "nothing"


def read(params: dict[str, Any], ruleset: Ruleset, gaps: Iterable[Gap], folder: str, owner: str) -> dict[str, Any]:
    """What state: read returns besides what every state returns. Raises journal.JournalError."""
    options = (params["chains"], params["prefix"])
    found: dict[str, Any] = {
        "fingerprint": fingerprint.fingerprint(ruleset, *options),
        "marks": fingerprint.marks(ruleset, *options),
        "whole": fingerprint.whole(ruleset, params["chains"]),
        "planned": newest(folder),
        "notes": [f"{gap.what} was not read: {gap.why}" for gap in gaps if gap.what.startswith("firewall.")],
        **applied(folder, owner),
    }
    if params["rules"]:
        found["listing"] = fingerprint.texts(ruleset, params["chains"])
    return found


def applied(folder: str, owner: str) -> dict[str, Any]:
    """Is what was applied still there? left: objects that somebody else changed since. After a rollback nothing is applied."""
    steps = rollback.preview(journal.Journal(folder), owner)
    left = [str(step.target) for step in steps if step.verdict != "restore"]
    return {"applied": CHANGED if left else STANDS if steps else NOTHING, "left": left}


def newest(folder: str) -> str | None:
    """The fingerprint of the newest plan file on this host."""
    place = os.path.join(folder, "plans")
    try:
        names = [one for one in os.scandir(place) if one.name.endswith(".json") and one.is_file(follow_symlinks=False)]
        return max(names, key=lambda one: one.stat().st_mtime).name[: -len(".json")] if names else None
    except OSError:
        return None
