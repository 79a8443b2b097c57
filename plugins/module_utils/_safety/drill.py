# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A fault that is injected on purpose, and taken back by the host itself when nobody comes back for it.

The way back is a script in a folder of /run. It is written, and a timer that runs it armed, before the fault is injected. Whoever
runs it first takes the marker away; the second one finds nothing to do. A line of it that fails leaves the marker: the fault may
still be there, and state=reverted tries again and says what failed. Each drill has an id of its own, so that the timer of one
does not end the next one. A reboot ends the fault: nothing here outlives /run.

    drill.json      the marker: {name, id, started, deadline, lines}
    revert.sh       the way back; its argument is the id of the drill that is meant. Its output goes to revert.log
    steps/N         line N of the marker was run and did not fail, in this run or in an earlier one
    sleeper-ID      /proc/PID/stat of the process that waits for the deadline, where no systemd does
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command, procfs
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, lock, objects

FOLDER = "/run/netops.fleet/drill"
UNIT = "netops-fleet-drill"
_NAME = re.compile(r"\A[a-z0-9][a-z0-9-]{0,62}\Z")
#: The word that ends a here-document which a line begins.
_HEREDOC = re.compile(r"<<-?\s*[\"'\\]?([A-Za-z_]\w*)")
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
    lines = statements(str(params["revert"]))
    if check:
        _left_over(folder)
        return {"changed": True, "drill": name, "environment": values, "deadline": None}
    return _injected(name, str(params["inject"]), lines, values, seconds, folder)


def default_way() -> dict[str, str]:
    """LINK and GATEWAY4 of the default route, where there is one."""
    for line in (procfs.text_or_none("/proc/net/route") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == "00000000" and words[7] == "00000000":
            return {"LINK": words[0], "GATEWAY4": socket.inet_ntoa(struct.pack("=I", int(words[2], 16)))}
    return {}


def statements(text: str) -> list[str]:
    """Lines of shell, those that belong together as one: each can be run, and fail, by itself. Raises DrillError."""
    found: list[str] = []
    chunk = ""
    for line in text.strip().splitlines():
        if not chunk and (not line.strip() or line.lstrip().startswith("#")):
            continue
        chunk += line + "\n"
        ends = set(_HEREDOC.findall(chunk)) - {one.strip() for one in chunk.splitlines()}
        if not ends and not line.endswith("\\") and command.run(["sh", "-nc", chunk]).ok:
            found.append(chunk.rstrip("\n"))
            chunk = ""
    if chunk:
        parsed = command.run(["sh", "-nc", chunk])
        if not parsed.ok:
            raise DrillError(f"revert is no shell from {chunk.splitlines()[0][:80]!r} on: {parsed.why()}")
        found.append(chunk.rstrip("\n"))
    if not found:
        raise DrillError("revert holds comments only: a fault without a way back is not injected")
    return found


def waiting(folder: str) -> dict[str, Any] | None:
    """The marker (see above) of the drill that is on, or None."""
    try:
        found = json.loads(procfs.text(_marker(folder), 4 << 20))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"name", "started", "deadline"} <= set(found) else None


def _marker(folder: str) -> str:
    return os.path.join(folder, "drill.json")


def _script(folder: str) -> str:
    return os.path.join(folder, "revert.sh")


def _log(folder: str) -> str:
    return os.path.join(folder, "revert.log")


def _steps(folder: str) -> str:
    return os.path.join(folder, "steps")


def _sleeper(folder: str, identity: str) -> str:
    return os.path.join(folder, f"sleeper-{identity}")


def _when(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))


def _left_over(folder: str) -> dict[str, Any] | None:
    """The marker of a drill whose deadline passed and that nobody took back. Raises DrillError while one is on."""
    active = waiting(folder)
    if active is not None and time.time() < active["deadline"]:
        raise DrillError(f"the drill {active['name']} is still on, until {_when(active['deadline'])}; take it back first")
    return active


def _injected(name: str, inject: str, revert: list[str], values: dict[str, str], seconds: int, folder: str) -> dict[str, Any]:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in sorted(values.items()))
    with lock.Lock(folder, "fault_drill"):
        left = _left_over(folder)
        if left is not None:
            _take_back(left, folder)  # what made it was killed before it could arm the timer, or a line of its way back failed
        started, identity = time.time(), os.urandom(8).hex()
        shutil.rmtree(_steps(folder), ignore_errors=True)
        os.mkdir(_steps(folder), 0o700)
        files.write(_script(folder), _way_back(name, identity, exports, revert, folder).encode("utf-8"), 0o700)
        deadline = round(started + seconds, 3)
        told = {"name": name, "id": identity, "started": round(started, 3), "deadline": deadline, "lines": revert}
        files.write(_marker(folder), json.dumps(told).encode("ascii") + b"\n")
        try:
            _arm(folder, seconds, identity)
        except DrillError:
            os.unlink(_marker(folder))
            raise
        done = command.run(["sh", "-euc", f"{exports}{inject}"], timeout=60)
        injected = time.time()
        if not done.ok:
            # Lines that take back what was not injected yet are bound to fail.
            failed = _take_back(told, folder, lenient=True)
            rest = f"; these lines of the way back failed: {_shown(failed)}" if failed else ""
            raise DrillError(f"the fault could not be injected and was taken back: {done.why()}{rest}")
    return {"changed": True, "drill": name, "environment": values, "deadline": deadline, "injected": round(injected, 3)}


def _way_back(name: str, identity: str, exports: str, revert: list[str], folder: str) -> str:
    """Every line is tried, whatever became of the one before it: what is left must be as little as can be."""
    marker, steps, numbers = shlex.quote(_marker(folder)), shlex.quote(_steps(folder)), range(1, len(revert) + 1)
    tried = "".join(f"{line}\ndrill_step {number}\n" for number, line in zip(numbers, revert))
    # The trap: also when a line ends the script. The lock: of two that run it at once, the second must not fail at what the
    # first one did; what the lines start does not inherit it.
    return f"""#!/bin/sh
# Takes back the drill {name}.
[ "${{1:-{identity}}}" = {identity} ] || exit 0
exec 9>{shlex.quote(_script(folder))}.lock
command -v flock >/dev/null && flock -w 30 9
grep -qs {identity} {marker} || exit 0
drill_mode="${{2:-}}"
{exports}exec </dev/null >{shlex.quote(_log(folder))} 2>&1
drill_step() {{ drill_status=$?; [ $drill_status -ne 0 ] || : >{steps}/"$1"; return $drill_status; }}
drill_end() {{
[ "$drill_mode" = lenient ] || for drill_n in {" ".join(map(str, numbers))}; do [ -e {steps}/$drill_n ] || exit 1; done
rm -f {marker}
}}
trap drill_end EXIT
{{
{tried}}} 9>&-
"""


def _arm(folder: str, seconds: int, identity: str) -> None:
    script = _script(folder)
    if objects.systemd():
        command.run(["systemctl", "stop", f"{UNIT}.timer"])  # of a drill whose marker was taken away by hand
        command.run(["systemctl", "reset-failed", f"{UNIT}.service", f"{UNIT}.timer"])
        words = ["systemd-run", f"--unit={UNIT}", f"--on-active={seconds}s", "--timer-property=AccuracySec=1s"]
        words += ["sh", script, identity]
    else:
        # It outlives this process, and hears no signal meant for it.
        wait = 'cat /proc/$$/stat >"$4.new" && mv "$4.new" "$4"; sleep "$1"; exec sh "$2" "$3"'
        words = ["setsid", "--fork", "sh", "-c", wait, "sh", str(seconds), script, identity, _sleeper(folder, identity)]
    done = command.run(words)
    if not done.ok:
        raise DrillError(f"the timer that takes the fault back could not be set, so it was not injected: {done.why()}")


def _reverted(name: str, folder: str, check: bool) -> dict[str, Any]:
    if check or not os.path.isdir(folder):
        return {"changed": _active(name, folder) is not None, "drill": name}
    with lock.Lock(folder, "fault_drill", wait=30.0):
        active = _active(name, folder)
        if active is not None:
            _take_back(active, folder)
    return {"changed": active is not None, "drill": name}


def _active(name: str, folder: str) -> dict[str, Any] | None:
    """The marker of this drill, None when none is on. Raises DrillError when another one is."""
    active = waiting(folder)
    if active is not None and active["name"] != name:
        raise DrillError(f"not {name} but {active['name']} is on, until {_when(active['deadline'])}; name that one")
    return active


def _take_back(active: dict[str, Any], folder: str, lenient: bool = False) -> list[str]:
    """Run the way back, under the lock, and end its timer. Returns the lines that failed, which only a lenient one forgives."""
    identity = str(active.get("id") or "")
    done = command.run(["sh", _script(folder), identity, "lenient" if lenient else ""], timeout=60)
    lines = list(active.get("lines") or [])
    failed = [line for number, line in enumerate(lines, 1) if not os.path.exists(os.path.join(_steps(folder), str(number)))]
    if os.path.exists(_marker(folder)):
        said = " ".join((procfs.text_or_none(_log(folder), 1 << 16) or "").split())[-300:]
        what = f"{len(failed)} of {len(lines)} lines of its way back failed: {_shown(failed)}" if failed else done.why()
        raise DrillError(
            f"the fault of the drill {active['name']} may still be there: {what}"
            + (f"; they said: {said}" if said else "")
            + f". The way back is {_script(folder)}: do by hand what failed, then remove {_marker(folder)};"
            + " or mend what it needs and give state=reverted again, which tries once more"
        )
    if objects.systemd():
        command.run(["systemctl", "stop", f"{UNIT}.timer"])
    elif identity:
        _end_sleeper(_sleeper(folder, identity))
    return failed


def _shown(lines: list[str]) -> str:
    return ", ".join(repr(line[:120]) for line in lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


def _end_sleeper(path: str) -> None:
    """End the process that was to wait, if its pid is still its own. Left alone it wakes up, and finds that it is not meant."""
    noted = _process(procfs.text_or_none(path, 4096))
    if noted is None:
        return
    os.unlink(path)
    pid, group, _started = noted
    if pid == group and _process(procfs.text_or_none(f"/proc/{pid}/stat", 4096)) == noted:
        try:
            os.killpg(group, signal.SIGTERM)
        except ProcessLookupError:
            pass


def _process(stat: str | None) -> tuple[int, int, int] | None:
    """(pid, process group, start in ticks since boot) of /proc/PID/stat. (proc(5))"""
    try:
        words = (stat or "").rpartition(")")[2].split()
        return int((stat or "").split()[0]), int(words[2]), int(words[19])
    except (ValueError, IndexError):
        return None
