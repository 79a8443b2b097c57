# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What an earlier run of a changer changed and this one does not want any more: it goes back to its original."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from ansible_collections.netops.fleet.plugins.module_utils._safety import journal
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object


def released(
    found: journal.Journal,
    owner: str,
    keep: Collection[Object],
    own_names: Collection[str] = (),
    cuts: Callable[[Object], bool] = lambda _target: False,
) -> list[Difference]:
    """What an earlier run changed and this one does not want: back to its original, if nobody else changed it since.

    own_names: names of files of this collection; a folder with others in it stays. cuts: can writing the object cut the host off?
    """
    entries = [entry for entry in found.live.values() if entry.owner == owner and entry.target not in keep]
    if not entries:
        return []
    from ansible_collections.netops.fleet.plugins.module_utils._safety import rollback

    present, _why = rollback.look(entries)
    changes = []
    for step in rollback.plan(entries, present):
        if step.target.kind == "dir" and _shared(step.target.name, own_names):
            continue
        if step.verdict in ("restore", "already"):
            # What is not there any more needs no write.
            after = step.original if step.verdict == "restore" else step.present
            cutting = step.verdict == "restore" and cuts(step.target)
            changes.append(Difference(step.target, step.present, after, cuts=cutting, release=True))
    return changes


def _shared(folder: str, own_names: Collection[str]) -> bool:
    """Do others keep files in a folder that this collection made?"""
    try:
        return bool(set(os.listdir(folder)) - set(own_names))
    except OSError:
        return False
