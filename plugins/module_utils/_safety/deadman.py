# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""A timer on the host that takes a change back unless somebody confirms that the host can still be reached.

The marker file decides. It is written before the change's first write; confirming removes it first of all. Two things look at it:
a timer (a transient systemd timer, or a detached process where systemd does not run), and a unit early at the next boot, so that
a host that was switched off and on in despair counts as not confirmed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command
from ansible_collections.netops.fleet.plugins.module_utils._safety import files, journal, objects

TIMER = "netops-fleet-deadman"
BOOT_UNIT = "/etc/systemd/system/netops-fleet-deadman-boot.service"
_BOOT_LINK = "/etc/systemd/system/sysinit.target.wants/netops-fleet-deadman-boot.service"
APPLICATION = "journal.pyz"

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
    """{change, deadline, seconds, boot} of a change that waits for its confirmation, or None."""
    try:
        with open(marker(folder), encoding="utf-8") as file:
            found = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and "change" in found and "deadline" in found else None


def arm(folder: str, change: str, seconds: int, application: str) -> None:
    """Start the clock for ``change``. application: path of the journal's command (portable.install). Raises DeadmanError."""
    if armed(folder) is not None:
        raise DeadmanError("another change still waits for its confirmation; confirm it or roll it back first")
    state = {"change": change, "deadline": round(time.time() + seconds, 3), "seconds": seconds, "boot": journal.boot_id()}
    try:
        files.write(marker(folder), json.dumps(state).encode("ascii") + b"\n")
        python = sys.executable or "/usr/bin/python3"
        if objects.systemd():
            _arm_systemd(folder, seconds, python, application)
        else:
            # It outlives this process, and hears no signal meant for it.
            words = [python, application, "--folder", folder, "expire", "--after", str(seconds), "--change", change]
            done = command.run(["setsid", "--fork", *words])
            if not done.ok:
                raise OSError(5, done.why())
    except OSError as error:
        disarm(folder)
        raise DeadmanError(f"the dead-man's timer could not be set: {error.strerror or error}") from None


def _arm_systemd(folder: str, seconds: int, python: str, application: str) -> None:
    text = _BOOT_TEXT.format(marker=marker(folder), folder=folder, python=python, application=application)
    files.write(BOOT_UNIT, text.encode("ascii"), 0o644)
    os.makedirs(os.path.dirname(_BOOT_LINK), exist_ok=True)
    files.remove(_BOOT_LINK)
    os.symlink(BOOT_UNIT, _BOOT_LINK)
    files.sync_folder(os.path.dirname(_BOOT_LINK))
    # A unit of an earlier change that failed would keep the name.
    command.run(["systemctl", "reset-failed", f"{TIMER}.service", f"{TIMER}.timer"])
    done = command.run(
        [
            "systemd-run",
            f"--unit={TIMER}",
            f"--on-active={seconds}s",
            "--timer-property=AccuracySec=1s",
            "--description=Take back a change that nobody confirmed",
            python,
            application,
            "--folder",
            folder,
            "expire",
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
        # Not the service: it may be the caller.
        command.run(["systemctl", "stop", f"{TIMER}.timer"])
    return was
