# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A timer on the host that takes a change back unless somebody confirms that the host can still be reached.

The marker file decides. It is written before the change's first write; confirming removes it first of all. Two things look at it:
timers (transient systemd timers, or detached processes where systemd does not run), and a unit early at the next boot, so that
a host that was switched off and on in despair counts as not confirmed.

A change that is armed while another waits joins it: the deadline moves, and one confirmation, or one expiry, is for all of them.
A new connection proves as much for the earlier ones. A timer that fires before the marker's deadline leaves it to a later one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, journal, objects, rollback

#: Of the transient units, followed by the change's id.
TIMER = "netops-fleet-deadman"
BOOT_UNIT = "/etc/systemd/system/netops-fleet-deadman-boot.service"
_BOOT_LINK = "/etc/systemd/system/sysinit.target.wants/netops-fleet-deadman-boot.service"

_BOOT_TEXT = """# Written by netops.fleet while a change waits for its confirmation; removed with it.
[Unit]
Description=Take back a change that nobody confirmed
ConditionPathExists={marker}
DefaultDependencies=no
RequiresMountsFor={folder}
After=systemd-remount-fs.service local-fs.target
Before=systemd-sysctl.service network-pre.target sysinit.target

[Service]
Type=oneshot
ExecStart={python} {application} --folder {folder} expire

[Install]
WantedBy=sysinit.target
"""


class DeadmanError(Exception):
    """It could not be armed; nothing was changed."""


def marker(folder: str) -> str:
    return os.path.join(folder, "deadman.json")


def armed(folder: str) -> dict[str, Any] | None:
    """{changes, deadline, seconds, boot, uptime} of changes that wait for their confirmation, oldest first; or None.

    deadline: by the clock, to be shown. uptime: the same as seconds since boot, which no clock that is set moves.
    """
    try:
        with open(marker(folder), encoding="utf-8") as file:
            found = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and {"changes", "deadline", "boot", "uptime"} <= set(found) else None


def left(waiting: dict[str, Any]) -> float:
    """Seconds until the deadline; none after a reboot, which counts as not confirmed (of a container: see cli.py)."""
    if waiting["boot"] != journal.boot_id():
        return 0.0
    return float(waiting["uptime"]) - time.clock_gettime(time.CLOCK_BOOTTIME)


def arm(folder: str, change: str, seconds: int, application: str) -> None:
    """Start the clock for ``change``. application: path of the journal's command (portable.install). Raises DeadmanError."""
    waiting = armed(folder)
    state = {
        "changes": [*(waiting["changes"] if waiting is not None else ()), change],
        "deadline": round(time.time() + max(seconds, 0.0 if waiting is None else left(waiting)), 3),
        "seconds": seconds,
        "boot": journal.boot_id(),
        "uptime": time.clock_gettime(time.CLOCK_BOOTTIME) + max(seconds, 0.0 if waiting is None else left(waiting)),
    }
    python = sys.executable or "/usr/bin/python3"
    try:
        # The timer before the marker: killed in between, a timer without a marker does nothing, and nothing was changed yet.
        if objects.systemd():
            _arm_systemd(folder, change, seconds, python, application)
        else:
            # It outlives this process, and hears no signal meant for it.
            words = [python, application, "--folder", folder, "expire", "--after", str(seconds), "--change", change]
            done = command.run(["setsid", "--fork", *words])
            if not done.ok:
                raise OSError(5, done.why())
        files.write(marker(folder), json.dumps(state).encode("ascii") + b"\n")
    except OSError as error:
        if waiting is None:
            disarm(folder)
        raise DeadmanError(f"the dead-man's timer could not be set: {error.strerror or error}") from None


def _arm_systemd(folder: str, change: str, seconds: int, python: str, application: str) -> None:
    text = _BOOT_TEXT.format(marker=marker(folder), folder=folder, python=python, application=application)
    files.write(BOOT_UNIT, text.encode("ascii"), 0o644)
    os.makedirs(os.path.dirname(_BOOT_LINK), exist_ok=True)
    files.remove(_BOOT_LINK)
    os.symlink(BOOT_UNIT, _BOOT_LINK)
    files.sync_folder(os.path.dirname(_BOOT_LINK))
    done = command.run(
        [
            "systemd-run",
            f"--unit={TIMER}-{change}",
            # A timer that failed is not kept.
            "--collect",
            f"--on-active={seconds}s",
            "--timer-property=AccuracySec=1s",
            "--description=Take back a change that nobody confirmed",
            python,
            application,
            "--folder",
            folder,
            "expire",
            "--change",
            change,
        ]
    )
    if not done.ok:
        raise OSError(5, done.why())


def disarm(folder: str) -> bool:
    """Confirmed, or taken back: remove the marker, then what looks at it. Returns whether it was armed."""
    was = armed(folder) is not None
    files_gone = [marker(folder)]
    if objects.systemd() and (was or os.path.lexists(BOOT_UNIT)):
        files_gone += [_BOOT_LINK, BOOT_UNIT]
    for path in files_gone:
        if os.path.isdir(os.path.dirname(path)):
            files.remove(path)
    if objects.systemd() and was:
        # Not the services: one of them may be the caller.
        command.run(["systemctl", "stop", f"{TIMER}-*.timer"])
    return was


def settle(folder: str, found: journal.Journal) -> None:
    """After a rollback: changes that were taken back wait no longer, and with the last one the timer goes."""
    waiting = armed(folder)
    if waiting is None:
        return
    still = [change for change in waiting["changes"] if found.in_force(change)]
    if not still:
        disarm(folder)
    elif still != waiting["changes"]:
        try:
            files.write(marker(folder), json.dumps({**waiting, "changes": still}).encode("ascii") + b"\n")
        except OSError:
            pass  # On a full disk it keeps what was taken back already, and finds that so when the time has come.


def expire(folder: str, waiting: dict[str, Any], found: journal.Journal) -> list[rollback.Step]:
    """Nobody confirmed: take back what waits. Under the lock."""
    changes = [change for change in waiting["changes"] if found.find(change) is not None]
    steps = rollback.undo(found, changes, note="nobody confirmed the change") if changes else []
    if not rollback.failed(steps):
        disarm(folder)  # Else the next boot tries again.
    return steps
