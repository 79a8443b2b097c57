# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A running service as an object of the journal: what its main process was started with. Bringing it into a state restarts it.

    service  {"cpus": "8-15", "policy": "bind:1", "memlock": "8388608"}   policy: null where it cannot be read
             {"failed": true}   it should run and does not; null: it was stopped, or is not there

Its unit's files are objects of their own and come first, on the way there and on the way back.
"""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, cpulist, procfs

#: systemd bounds a stop and a start itself (TimeoutStopSec=, TimeoutStartSec=); a server that loads a large model has minutes.
_PATIENCE = 3600.0
#: Seconds in which systemd makes the process that it forked the service's own.
_SETTLE = 10.0


def capture(unit: str) -> dict[str, Any] | None:
    """Raises OSError."""
    shown = show(unit, "MainPID", "ActiveState")
    pid = shown.get("MainPID", "")
    found = process(int(pid)) if pid.isdigit() and int(pid) > 0 else None
    return {"failed": True} if found is None and shown.get("ActiveState") in ("failed", "activating") else found


def put(unit: str, _state: dict[str, Any] | None) -> None:
    """Start it anew with what its unit says now; one that was stopped stays so. Raises OSError."""
    if capture(unit) is None:
        return
    for words in (["daemon-reload"], ["restart", unit]):
        done = command.run(["systemctl", *words], timeout=_PATIENCE)
        if not done.ok:
            raise OSError(5, done.why())
    _settle(unit)


def _settle(unit: str) -> None:
    """A service of type simple counts as started before its process has its place: systemd's own child sets it, then execs."""
    until = time.monotonic() + _SETTLE
    while time.monotonic() < until:
        pid = show(unit, "MainPID").get("MainPID", "")
        try:
            program = os.path.basename(os.readlink(f"/proc/{pid}/exe")) if pid not in ("", "0") else ""
        except OSError:
            program = "systemd"  # it ended meanwhile: the next one is looked at
        if program not in ("systemd", "systemd-executor"):
            return
        time.sleep(0.05)


def show(unit: str, *properties: str) -> dict[str, str]:
    """``systemctl show``; a property that this systemd does not know is missing. Raises OSError."""
    shown = command.run(["systemctl", "show", f"--property={','.join(properties)}", "--", unit])
    if not shown.ok:
        raise OSError(5, shown.why())
    return dict(line.partition("=")[::2] for line in shown.out.splitlines())


def process(pid: int) -> dict[str, Any] | None:
    """What a process was given; None when it is gone."""
    status = procfs.text_or_none(f"/proc/{pid}/status", 65536) or ""
    allowed = next(
        (line.partition(":")[2].strip() for line in status.splitlines() if line.startswith("Cpus_allowed_list:")), None
    )
    cpus = cpulist.parse_or_none(allowed)
    if cpus is None:
        return None
    return {
        "cpus": cpulist.show(cpus),
        "policy": policy(pid),
        "memlock": memlock(procfs.text_or_none(f"/proc/{pid}/limits") or ""),
    }


def policy(pid: int) -> str | None:
    """The memory policy that its first mapping shows. One page is read: the whole file walks every page of the process."""
    first = procfs.text_or_none(f"/proc/{pid}/numa_maps", 4096)
    words = (first or "").split()
    if len(words) < 2:
        return None
    # "bind=static:1": systemd sets no mode flags, a program may.
    name, colon, nodes = words[1].partition(":")
    return name.partition("=")[0] + colon + nodes


def memlock(limits: str) -> str | None:
    """The soft limit of locked memory in /proc/PID/limits: bytes, or ``infinity``."""
    for line in limits.splitlines():
        if line.startswith("Max locked memory"):
            word = line[len("Max locked memory") :].split()[0]
            return "infinity" if word == "unlimited" else word
    return None
