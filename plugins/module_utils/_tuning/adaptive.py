# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Adaptive buffers on the host: take a sample, remember, log; and the timer that does so without Ansible. (T04)"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from typing import Any, TextIO

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs, sysctl
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, journal, lock, objects, portable
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state
from ansible_collections.netops.fleet.plugins.module_utils._tuning import adapt, bdp, host

OWNER = "sysctl_tuning"
UNIT = "netops-fleet-adapt"
_SERVICE = f"/etc/systemd/system/{UNIT}.service"
_TIMER = f"/etc/systemd/system/{UNIT}.timer"
_KEEP = 50
KEYS = (("net.ipv4.tcp_rmem", False), ("net.ipv4.tcp_wmem", True))


def _path(folder: str) -> str:
    return os.path.join(folder, "adapt.json")


def load(folder: str) -> dict[str, Any]:
    """{state, decisions: [{time, key, value, moved, why}], settings}; empty when there is none yet."""
    try:
        with open(_path(folder), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def report(folder: str) -> dict[str, Any]:
    """What the module shows as facts: the last state and the decisions, newest last."""
    found = load(folder)
    return {"state": found.get("state", {}), "decisions": list(found.get("decisions", []))}


def _save(folder: str, content: dict[str, Any]) -> None:
    files.write(_path(folder), json.dumps(content, indent=1).encode("ascii") + b"\n")


def settings(options: Any) -> dict[str, Any]:
    """How samples are taken and judged. fixed: keys whose values the user gave; they are not moved."""
    return {
        "window": options.adapt_window,
        "link_mbit": options.link_mbit,
        "flows": options.flows or 64,
        "fixed": [key for key, _send in KEYS if key in options.settings],
    }


def measure(window: float) -> adapt.Sample:
    """One sample. Taken without the lock, so that nobody waits for it."""
    before, started = traffic(), time.monotonic()
    time.sleep(window)
    return sampled(time.monotonic() - started, before, traffic())


def traffic() -> tuple[int, int]:
    """(packets, octets) of this network namespace since it was made, both directions."""
    snmp = procfs.paired_tables(procfs.text_or_none("/proc/net/snmp") or "")
    extended = procfs.paired_tables(procfs.text_or_none("/proc/net/netstat") or "")
    tcp, octets = snmp.get("Tcp", {}), extended.get("IpExt", {})
    return tcp.get("InSegs", 0) + tcp.get("OutSegs", 0), octets.get("InOctets", 0) + octets.get("OutOctets", 0)


def sampled(seconds: float, before: tuple[int, int], after: tuple[int, int]) -> adapt.Sample:
    """One sample of adaptive buffers; a counter that was reset counts as nothing."""
    packets, octets = max(0, after[0] - before[0]), max(0, after[1] - before[1])
    pressure = host.tcp_pressure()
    used = 0
    for line in (procfs.text_or_none("/proc/net/sockstat") or "").splitlines():
        match = re.match(r"TCP:.* mem (\d+)", line)
        if match:
            used = int(match.group(1))
    return adapt.Sample(seconds, packets, octets, host.memory()[1], pressure is not None and used > pressure)


def decide(folder: str, how: dict[str, Any], sample: adapt.Sample, found: journal.Journal, remember: bool) -> dict[str, str]:
    """What follows from a sample: {key: whole value, "why": text}. remember: keep state and log (not in check mode).

    The bounds are the kernel's default and what was there before (low), the memory's share per flow (high).
    """
    link = float(how.get("link_mbit") or host.link_mbit() or 10000.0)
    score = adapt.load(sample, link)
    kept = load(folder)
    state, action = adapt.remember(adapt.State.from_dict(kept.get("state")), sample, score)
    total = host.memory()[0]
    share = bdp.budget(total, host.tcp_pressure(), os.sysconf("SC_PAGE_SIZE"))[0] // max(1, int(how.get("flows") or 64))
    values: dict[str, str] = {}
    log = list(kept.get("decisions", []))
    for key, send in KEYS:
        if key in how.get("fixed", ()):
            continue
        now = (sysctl.read(key) or "").split()
        if len(now) != 3:
            continue
        was = found.original(Object("sysctl", key), {"value": " ".join(now)})
        low = max(bdp.floor_maximum(host.kernel(), total, send), int(str((was or {})["value"]).split()[2]))
        decision = adapt.decide(action, sample, score, int(now[2]), low, max(low, min(share, bdp.MAX_BUFFER)))
        values[key] = f"{now[0]} {now[1]} {decision.value}"
        values["why"] = decision.why
        log.append(
            {"time": round(time.time(), 3), "key": key, "value": decision.value, "moved": decision.moved, "why": decision.why}
        )
    if remember:
        _save(folder, {**kept, "state": state.to_dict(), "decisions": log[-_KEEP:]})
    return values


# --- the timer


def timer_objects() -> list[Object]:
    return [Object("file", _SERVICE), Object("file", _TIMER), Object("unit", f"{UNIT}.timer")]


def timer_changes(folder: str, interval: int) -> list[Difference]:
    """Units that take a sample every ``interval`` seconds."""
    python = sys.executable or "/usr/bin/python3"
    service = (
        "# Written by netops.fleet (sysctl_tuning).\n[Unit]\nDescription=Adapt TCP buffers to traffic and memory\n\n"
        f"[Service]\nType=oneshot\nExecStart={python} {folder}/adapt.pyz --folder {folder}\n"
    )
    timer = (
        "# Written by netops.fleet (sysctl_tuning).\n[Unit]\nDescription=Adapt TCP buffers to traffic and memory\n\n"
        f"[Timer]\nOnActiveSec={interval}s\nOnUnitInactiveSec={interval}s\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    )
    wanted: list[dict[str, Any] | None] = [file_state(service), file_state(timer), {"enabled": True, "active": True}]
    found = []
    for target, after in zip(timer_objects(), wanted):
        before = objects.capture(target)
        if not objects.same(target, before, after):
            found.append(Difference(target, before, after))
    return found


def install(options: Any) -> None:
    """The program and its settings. Raises OSError."""
    portable.install(options.folder, "adapt.pyz", __name__)
    kept = load(options.folder)
    if kept.get("settings") != settings(options):
        _save(options.folder, {**kept, "settings": settings(options)})


def main(arguments: list[str]) -> int:
    """What the timer runs: one sample, and the move it asks for; journalled as the module does it."""
    parser = argparse.ArgumentParser(prog="adapt.pyz", description="Adapt TCP buffers to traffic and memory, once.")
    parser.add_argument("--folder", default=journal.FOLDER)
    chosen = parser.parse_args(arguments)
    how = load(chosen.folder).get("settings")
    if not isinstance(how, dict):
        _say(f"{_path(chosen.folder)} holds no settings; run sysctl_tuning with adapt first", sys.stderr)
        return 1
    sample = measure(float(how["window"]))
    try:
        with lock.Lock(chosen.folder, UNIT):
            found = journal.Journal(chosen.folder)
            values = decide(chosen.folder, how, sample, found, remember=True)
            why = values.pop("why", "")
            writes: list[tuple[Object, dict[str, Any] | None, dict[str, Any] | None]] = []
            for key, value in values.items():
                present = objects.capture(Object("sysctl", key))
                if not objects.same(Object("sysctl", key), present, {"value": value}):
                    writes.append((Object("sysctl", key), present, {"value": value}))
            _say(why or "nothing to adapt: the values of both buffers were given")
            if writes:
                change = found.begin(OWNER, writes)
                for target, _present, state in writes:
                    objects.put(target, state)
                found.done(change)
    except lock.Busy as error:
        _say(f"passed over: {error}")
    except (journal.JournalError, objects.ObjectError, OSError) as error:
        _say(error, sys.stderr)
        return 1
    return 0


def _say(text: object, stream: TextIO = sys.stdout) -> None:
    """This runs as a program of its own, where print() would do."""
    stream.write(f"{text}\n")
