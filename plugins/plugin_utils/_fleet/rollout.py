# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""A rollout's memory on the controller: batches, failures of the whole fleet, and the budget they are held against.

``max_fail_percentage`` counts per batch and forgets earlier ones; this counts all hosts of the run.
``<output>/tune-<UTC yyyymmddThhmmssZ>/rollout.json`` (0600 in a 0700 folder) is written after every step.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import store
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

FILE = "rollout.json"
#: What a host can have come to. waiting: its batch has not begun.
STATES = ("waiting", "running", "new", "unchanged", "rolled back", "failed", "unreachable", "sick")


_ROLE = re.compile(r"\A[a-z0-9_]+\.[a-z0-9_]+\.[a-z0-9_]+\Z")


class RolloutError(Exception):
    """The rollout cannot start or go on; the message says why and what to do."""


@dataclass
class Rollout:
    """budget: hosts of the fleet that may fail before the run stops. hosts: name → state (see STATES). reasons: name → why.

    batches: names, in the order they were begun. stopped: why the run ended early, or "".
    """

    folder: str
    started: float
    budget: int
    hosts: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    stopped: str = ""
    #: Full names of the roles that change a host, in their order.
    roles: list[str] = field(default_factory=list)

    def save(self) -> None:
        store.write_atomic(os.path.join(self.folder, FILE), json.dumps(asdict(self), indent=1).encode("utf-8") + b"\n")

    def fail(self, host: str, state: str, reason: str) -> None:
        self.hosts[host] = state
        self.reasons[host] = clean(reason, 600)

    def bad(self) -> list[str]:
        """Hosts that count against the budget."""
        return sorted(self.reasons)

    def over(self) -> bool:
        return len(self.reasons) > self.budget

    def stop(self) -> str:
        names = self.bad()
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        self.stopped = f"{len(names)} of {len(self.hosts)} hosts failed ({shown}), the budget is {self.budget}"
        return self.stopped

    def lines(self) -> list[str]:
        """The report for the terminal."""
        counts = {state: sum(1 for one in self.hosts.values() if one == state) for state in STATES}
        out = [", ".join(f"{count} {state}" for state, count in counts.items() if count)]
        for number, batch in enumerate(self.batches, 1):
            out.append(f"batch {number}: " + ", ".join(f"{host} {self.hosts[host]}" for host in batch))
        out += [f"{host}: {reason}" for host, reason in sorted(self.reasons.items())]
        if self.stopped:
            out.append(f"stopped: {self.stopped}")
        return out


def budget(given: Any, hosts: int) -> int:
    """A number of hosts, or a percentage of the fleet, rounded down. Raises RolloutError."""
    text = str(given).strip()
    number = text[:-1].strip() if text.endswith("%") else text
    if isinstance(given, bool) or not number.isdigit() or (text.endswith("%") and int(number) > 100):
        allowed = "it takes a number of hosts, such as 2, or a percentage such as 5%"
        raise RolloutError(f"budget is {clean(repr(given), 60)}; {allowed}")
    return hosts * int(number) // 100 if text.endswith("%") else int(number)


def names(given: Any) -> list[str]:
    """Full names of roles. Raises RolloutError."""
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, str) and _ROLE.match(one) for one in given):
        raise RolloutError(f"roles is {clean(repr(given), 200)}; it takes a list of full names, such as netops.fleet.tune_kernel")
    return list(given)


def begin(output: str, hosts: list[str], given: Any, roles: Any = (), now: float | None = None) -> Rollout:
    """Make the run's folder. given: the budget. Raises RolloutError."""
    if not hosts:
        raise RolloutError("the play has no hosts")
    now = time.time() if now is None else now
    allowed, changers = budget(given, len(hosts)), names(roles)
    base = os.path.join(os.path.abspath(os.path.expanduser(output)), "tune-" + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))
    for number in range(1, 1000):
        folder = base if number == 1 else f"{base}-{number}"
        try:
            os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
            os.mkdir(folder, 0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise RolloutError(f"{folder} cannot be made: {error.strerror}; give an output folder that you may write") from None
        rollout = Rollout(folder, round(now, 3), allowed, dict.fromkeys(hosts, "waiting"), roles=changers)
        rollout.save()
        return rollout
    raise RolloutError(f"{base} and 999 like it exist")


def load(folder: Any) -> Rollout:
    """Raises RolloutError."""
    if not isinstance(folder, str) or not folder:
        raise RolloutError(f"rollout is {clean(repr(folder), 80)}; it must be the folder that step begin returned")
    try:
        with open(os.path.join(folder, FILE), encoding="utf-8") as file:
            found = json.load(file)
        return Rollout(folder, **{key: value for key, value in found.items() if key != "folder"})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RolloutError(f"{folder}/{FILE} cannot be read: {clean(str(error), 200)}") from None
