# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""irqbalance beside a placement of our own: leave it, tell it which devices are not its business, or stop it.

The ban is by device, through irqbalance's own policy script: interrupt numbers change, addresses do not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import nic_objects, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object

POLICIES = ("keep", "ban", "stop")
SERVICE = "irqbalance.service"
POLICY = Object("irqbalance", "policy")
UNIT = Object("unit", SERVICE)

_SCRIPT = """#!/bin/sh
# Written by netops.fleet (irq_affinity). irqbalance calls it with a device and an interrupt: these devices are placed by us.
case "${{1##*/}}" in
{lines}esac
exit 0
"""
_DROP_IN = """# Written by netops.fleet (irq_affinity): irqbalance leaves the interrupts alone that we place.
[Service]
ExecStart=
ExecStart={command} --policyscript={script}
"""


@dataclass(frozen=True)
class Found:
    """pid: of the running irqbalance, None when none runs. start: command of its unit without ours, None without a unit.

    other: a policy script that is not ours.
    """

    pid: int | None = None
    start: str | None = None
    other: str | None = None


def read() -> Found:
    pid = _running()
    words = (procfs.text_or_none(f"/proc/{pid}/cmdline", 65536) or "").split("\0") if pid is not None else []
    start = None
    if objects.systemd():
        said = command.run(["systemctl", "cat", SERVICE])
        start = exec_start(said.out) if said.ok else None
    other = next((script for script in map(policy_script, (" ".join(words), start or "")) if script), None)
    return Found(pid, start, other)


def _running() -> int | None:
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return None
    for name in sorted(names, key=int):
        if (procfs.text_or_none(f"/proc/{name}/comm", 64) or "").strip() == "irqbalance":
            return int(name)
    return None


def exec_start(content: str) -> str | None:
    """The command of ``systemctl cat``, as it is without our drop-in."""
    found = None
    ours = False
    for line in content.splitlines():
        if line.startswith("# /"):
            ours = line[2:].strip() == nic_objects.POLICY_DROP_IN
        if line.startswith("ExecStart=") and not ours:
            found = line.partition("=")[2].strip() or None
    return found


def policy_script(words: str) -> str | None:
    """A policy script among the words of a command, unless it is ours."""
    match = re.search(r"(?:--policyscript[= ]|\s-l\s*)(\S+)", words)
    return match.group(1) if match and match.group(1) != nic_objects.POLICY_SCRIPT else None


def changes(policy: str, found: Found, homes: Collection[str]) -> tuple[list[Difference], list[str], list[str]]:
    """(differences, warnings, errors). homes: devices whose interrupts are placed, by address."""
    if policy == "keep":
        busy = [f"irqbalance runs (pid {found.pid}) and will move what is placed here: ban or stop it"] if found.pid else []
        return [], busy, []
    if found.start is None:
        if found.pid is None:
            return [], [], []  # no irqbalance on this host
        return [], [], [f"irqbalance runs (pid {found.pid}) without a systemd unit: end it, or use irqbalance: keep"]
    if policy == "stop":
        before = objects.capture(UNIT)
        after = {"enabled": False, "active": False}
        return ([] if objects.same(UNIT, before, after) else [Difference(UNIT, before, after)]), [], []
    if found.other is not None:
        error = (
            f"irqbalance has a policy script already, {found.other}. Let it print ban=true for "
            f"{', '.join(sorted(homes)) or 'these devices'} and use irqbalance: keep, or use irqbalance: stop"
        )
        return [], [], [error]
    before, after_policy = objects.capture(POLICY), wanted(found.start, homes)
    return ([] if objects.same(POLICY, before, after_policy) else [Difference(POLICY, before, after_policy)]), [], []


def wanted(start: str, homes: Collection[str]) -> dict[str, Any]:
    """The policy as the journal keeps it. Addresses come from sysfs; what is no address is left out."""
    names = [home for home in sorted(homes) if re.fullmatch(r"[A-Za-z0-9:.-]+", home)]
    lines = f"{'|'.join(names)}) echo ban=true ;;\n" if names else ""
    return {
        "script": _SCRIPT.format(lines=lines),
        "drop_in": _DROP_IN.format(command=start, script=nic_objects.POLICY_SCRIPT),
    }


def targets(policy: str, found: Found) -> set[Object]:
    """Objects that stay ours while the policy holds."""
    if found.start is None:
        return set()
    return {"ban": {POLICY}, "stop": {UNIT}}.get(policy, set())
