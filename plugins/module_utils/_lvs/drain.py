# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""When may a real server that takes no new connections be removed? Pure; the clock is the caller's."""

from __future__ import annotations

from collections.abc import Collection

from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import Server, Table

#: wait: look again; delete: nobody is on it; force: delete with connections on it; keep, fail: time is up, it stays at weight 0.
DECISIONS = ("wait", "delete", "force", "keep", "fail")
ON_TIMEOUT = ("keep", "fail", "force")
UNTIL = ("empty", "active")


def remaining(server: Server, until: str = "empty") -> int:
    """Connections that a drain waits for. ``empty``: all; ``active``: established ones only.

    Closed connections stay "inactive" for the kernel's tcp_fin time, and a half-closed one may still carry a download; UDP has
    no other state. So ``empty`` is the safe rule.
    """
    return server.active if until == "active" else server.connections


def decide(connections: int, age: float, timeout: float, on_timeout: str, force: bool = False) -> str:
    """connections: what ``remaining`` says. age: seconds since the server got weight 0 for this, over all runs."""
    if connections <= 0:
        return "delete"
    if force:
        return "force"
    if age < timeout:
        return "wait"
    return on_timeout


def over_budget(wanted: Table, drained: Collection[str], at_once: float) -> list[str]:
    """Services of which more than ``at_once`` of the wanted weight would be drained, in words. drained: addresses."""
    found = []
    for key, service in sorted(wanted.services.items()):
        total = sum(server.weight for server in service.servers.values())
        gone = sum(server.weight for name, server in service.servers.items() if name.address in drained)
        if gone > at_once * total + 1e-9:
            found.append(f"{key}: {round(gone / total * 100)} % of its weight")
    return found


def ages(began: dict[str, float], names: list[str], now: float) -> tuple[dict[str, float], dict[str, float]]:
    """(seconds since each began, the record to keep): names not in ``began`` begin now, those not in ``names`` are forgotten.

    A clock that was set back makes a drain begin anew, never end early.
    """
    kept = {name: began[name] if began.get(name, now + 1) <= now else now for name in names}
    return {name: now - since for name, since in kept.items()}, kept
