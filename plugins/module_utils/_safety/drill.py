# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A fault that is injected on purpose, and taken back by the host itself when nobody comes back for it.

The way back is a script in a folder of /run. It is written, and a timer that runs it armed, before the fault is injected. Whoever
runs it first takes the marker away; the second one finds nothing to do. A reboot ends the fault: nothing here outlives /run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import struct
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, lock, objects

FOLDER = "/run/netops.fleet/drill"
UNIT = "netops-fleet-drill"
_NAME = re.compile(r"\A[a-z0-9][a-z0-9-]{0,62}\Z")
_VARIABLE = re.compile(r"\A[A-Z][A-Z0-9_]{0,30}\Z")

#: The argument spec of the module; its documentation stands in plugins/modules/fault_drill.py.
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["injected", "reverted"], "required": True},
    "name": {"type": "str", "required": True},
    "inject": {"type": "str"},
    "revert": {"type": "str"},
    "environment": {"type": "dict", "default": {}},
    "seconds": {"type": "int", "default": 120},
}


class DrillError(Exception):
    """Nothing is broken by the drill; the message says why it was not made, or what is left."""


def run(params: dict[str, Any], check: bool, folder: str = FOLDER) -> dict[str, Any]:
    """What the module returns. Raises DrillError, lock.Busy and OSError."""
    name, seconds = str(params["name"]), int(params["seconds"])
    if not _NAME.match(name):
        raise DrillError(f"name is {name[:80]!r}; allowed are a to z, 0 to 9 and -, at most 63 of them")
    if params["state"] == "reverted":
        return _reverted(name, folder, check)
    if not 5 <= seconds <= 3600:
        raise DrillError(f"seconds is {seconds}; allowed are 5 to 3600")
    if not (params.get("inject") or "").strip() or not (params.get("revert") or "").strip():
        raise DrillError("inject and revert must both hold shell lines: a fault without a way back is not injected")
    values = {**default_way(), **{str(key): str(value) for key, value in params["environment"].items()}}
    odd = [key for key in values if not _VARIABLE.match(key)]
    if odd:
        raise DrillError(f"environment: {odd[0][:40]!r} is no name of a variable; allowed are A to Z, 0 to 9 and _")
    active = waiting(folder)
    if active is not None:
        raise DrillError(f"the drill {active['name']} is still on, until {_when(active['deadline'])}; take it back first")
    if check:
        return {"changed": True, "drill": name, "environment": values, "deadline": None}
    return _injected(name, str(params["inject"]), str(params["revert"]), values, seconds, folder)


def default_way() -> dict[str, str]:
    """LINK and GATEWAY4 of the default route, where there is one."""
    for line in (procfs.text_or_none("/proc/net/route") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == "00000000" and words[7] == "00000000":
            return {"LINK": words[0], "GATEWAY4": socket.inet_ntoa(struct.pack("=I", int(words[2], 16)))}
    return {}


def waiting(folder: str) -> dict[str, Any] | None:
    """{name, started, deadline} of the drill that is on, or None."""
    try:
        found = json.loads(procfs.text(_marker(folder), 65536))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"name", "started", "deadline"} <= set(found) else None


def _marker(folder: str) -> str:
    return os.path.join(folder, "drill.json")


def _script(folder: str) -> str:
    return os.path.join(folder, "revert.sh")


def _when(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))


def _injected(name: str, inject: str, revert: str, values: dict[str, str], seconds: int, folder: str) -> dict[str, Any]:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in sorted(values.items()))
    with lock.Lock(folder, "fault_drill"):
        started = time.time()
        # Every line is tried, whatever became of the one before it: what is left must be as little as can be.
        text = f"#!/bin/sh\n# Takes back the drill {name}.\n[ -e {shlex.quote(_marker(folder))} ] || exit 0\n"
        text += f"{exports}{{\n{revert.strip()}\n}}\nrm -f {shlex.quote(_marker(folder))}\n"
        files.write(_script(folder), text.encode("utf-8"), 0o700)
        told = {"name": name, "started": round(started, 3), "deadline": round(started + seconds, 3)}
        files.write(_marker(folder), json.dumps(told).encode("ascii") + b"\n")
        try:
            _arm(folder, seconds)
        except DrillError:
            os.unlink(_marker(folder))
            raise
        done = command.run(["sh", "-euc", f"{exports}{inject}"], timeout=60)
        injected = time.time()
    if not done.ok:
        _reverted(name, folder, False)
        raise DrillError(f"the fault could not be injected and was taken back: {done.why()}")
    return {"changed": True, "drill": name, "environment": values, "deadline": told["deadline"], "injected": round(injected, 3)}


def _arm(folder: str, seconds: int) -> None:
    script = _script(folder)
    if objects.systemd():
        command.run(["systemctl", "reset-failed", f"{UNIT}.service", f"{UNIT}.timer"])
        words = ["systemd-run", f"--unit={UNIT}", f"--on-active={seconds}s", "--timer-property=AccuracySec=1s", "sh", script]
    else:
        # It outlives this process, and hears no signal meant for it.
        words = ["setsid", "--fork", "sh", "-c", 'sleep "$1"; exec sh "$2"', "sh", str(seconds), script]
    done = command.run(words)
    if not done.ok:
        raise DrillError(f"the timer that takes the fault back could not be set, so it was not injected: {done.why()}")


def _reverted(name: str, folder: str, check: bool) -> dict[str, Any]:
    active = waiting(folder)
    if active is None:
        return {"changed": False, "drill": name}
    if active["name"] != name:
        raise DrillError(f"not {name} but {active['name']} is on, until {_when(active['deadline'])}; name that one")
    if check:
        return {"changed": True, "drill": name}
    with lock.Lock(folder, "fault_drill", wait=30.0):
        done = command.run(["sh", _script(folder)], timeout=60)
        if objects.systemd():
            command.run(["systemctl", "stop", f"{UNIT}.timer"])
    if os.path.exists(_marker(folder)):
        raise DrillError(f"the fault may still be there: {done.why()}; the way back is {_script(folder)}")
    return {"changed": True, "drill": name}
