# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Settings of NICs last until the driver restarts: a unit and a udev rule call a changer's program again. No list of numbers.

The program is the changer's own code (_safety/portable.py); its options are in the journal's folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from ansible_collections.netops.fleet.plugins.module_utils._safety import files, journal, lock, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import Difference
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object, file_state
from ansible_collections.netops.fleet.plugins.module_utils._tuning.change import ChangeError

#: Seconds a program waits for a change that is under way.
_PATIENCE = 120.0

_SERVICE = """# Written by netops.fleet ({owner}): plans anew for what the host has now.
[Unit]
Description={description}
After=systemd-sysctl.service network.target irqbalance.service{after}

[Service]
Type=oneshot
ExecStart={python} {folder}/{program} --folder {folder}

[Install]
WantedBy=multi-user.target
"""
_TIMER = """# Written by netops.fleet ({owner}): one run after the last of many events.
[Unit]
Description={description} after NICs changed
StartLimitIntervalSec=0

[Timer]
OnActiveSec=2s
AccuracySec=100ms
RemainAfterElapse=no
"""
_RULE = (
    'SUBSYSTEM=="{subsystem}", ACTION=="{action}", DEVPATH!="/devices/virtual/*", '
    'RUN+="{systemctl} --no-block restart {unit}.timer"\n'
)


class Withdrawn(Exception):
    """The program was started while its change was taken back: there is nothing to do any more."""


@dataclass(frozen=True)
class Again:
    """unit: its name. program: file in the journal's folder. events: (subsystem, actions) of udev. after: another unit."""

    owner: str
    unit: str
    program: str
    description: str
    events: tuple[tuple[str, str], ...]
    after: str = ""

    def targets(self) -> list[Object]:
        system = "/etc/systemd/system"
        return [
            Object("file", f"{system}/{self.unit}.service"),
            Object("file", f"{system}/{self.unit}.timer"),
            Object("file", f"/etc/udev/rules.d/99-{self.unit}.rules"),
            Object("unit", f"{self.unit}.service"),
        ]

    def changes(self, folder: str, boot: bool = False) -> list[Difference]:
        """What is missing of the unit that runs at boot, and of the rule that runs it when NICs change.

        boot: it is the unit that asks, under the lock. It writes no unit: it would wait for its own end, and bring back what was
        taken back while it waited for the lock. Raises Withdrawn.
        """
        if boot:
            if not os.path.exists(self.targets()[0].name):
                raise Withdrawn(f"{self.unit}.service was taken back meanwhile; nothing is changed")
            return []
        python = sys.executable or "/usr/bin/python3"
        systemctl = "/usr/bin/systemctl" if os.path.exists("/usr/bin/systemctl") else "/bin/systemctl"
        words: dict[str, Any] = {"owner": self.owner, "description": self.description, "unit": self.unit, "systemctl": systemctl}
        after = f" {self.after}" if self.after else ""
        rules = [_RULE.format(subsystem=subsystem, action=action, **words) for subsystem, action in self.events]
        wanted: list[dict[str, Any]] = [
            file_state(_SERVICE.format(python=python, folder=folder, program=self.program, after=after, **words)),
            file_state(_TIMER.format(**words)),
            file_state(f"# Written by netops.fleet ({self.owner}).\n{''.join(rules)}"),
            {"enabled": True, "active": False},
        ]
        found = []
        for target, state in zip(self.targets(), wanted):
            before = objects.capture(target)
            if target.kind == "unit" and before is not None:
                before = {**before, "active": False}  # it may be what runs us
            if not objects.same(target, before, state):
                found.append(Difference(target, before, state))
        return found


def load(folder: str, name: str) -> dict[str, Any]:
    """What a changer keeps between runs; empty when there is nothing yet."""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save(folder: str, name: str, content: dict[str, Any]) -> None:
    if content != load(folder, name):
        files.write(os.path.join(folder, name), json.dumps(content, indent=1).encode("ascii") + b"\n")


def forget(folder: str, name: str) -> None:
    if os.path.isdir(folder):
        files.remove(os.path.join(folder, name))


def run(path: str, options: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """The main part of such a program. options: as kept. change: applies them. Returns the exit status."""
    if not isinstance(options, dict):
        say(f"{path} holds no options; run the module first", sys.stderr)
        return 1
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            result = change(options)
            break
        except Withdrawn as error:
            say(error)
            return 0
        except lock.Busy as error:
            if time.monotonic() > deadline:  # each attempt waits some seconds for the lock
                say(error, sys.stderr)
                return 1
        except (ChangeError, journal.JournalError, objects.ObjectError, OSError) as error:
            say(error, sys.stderr)
            return 1
    for one in result["changes"]:
        say(f"{one['kind']} {one['name']}: {one['before']} -> {one['after']}")
    for line in result["warnings"]:
        say(line, sys.stderr)
    return 0


def say(text: object, stream: TextIO | None = None) -> None:
    """These run as programs of their own, where print() would do."""
    (stream or sys.stdout).write(f"{text}\n")
