# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Weights given to keepalived without a reload: one small file for each real server, which FILE_CHECK tracks.

keepalived adds a file's number to the configured weight. That weight is 1 for every server, so a file holds the wanted weight
minus 1: a base of 0 makes keepalived reduce the quorum to 0 when it reads its configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import Server, ServerKey, ServiceKey, Table
from ansible_collections.netops.fleet.plugins.module_utils._safety import files

#: The weight of every server in keepalived's configuration.
BASE = 1


def name_of(service: ServiceKey, server: ServerKey) -> str:
    """The name of a server's file, and of its track_file block."""
    return re.sub(r"[^A-Za-z0-9.]", "_", f"{service}--{server}")


def value_of(weight: int) -> str:
    return f"{weight - BASE}\n"


def weight_in(path: str) -> int | None:
    """The weight that a file stands for; None when it is not there or holds no number."""
    found = procfs.text_or_none(path, 64)
    number = procfs.decimal(found.strip()) if found is not None else None
    return None if number is None else number + BASE


def target_of(path: str) -> str:
    """Where the weight a ramp leads to is kept, beside the file that keepalived reads."""
    return path + ".target"


def ramping(path: str) -> bool:
    """Is a slow start waiting for the server, or under way? Its note says ``down``, or the process that moves the file."""
    note = procfs.text_or_none(path + ".ramp", 64)
    if note is None:
        return False
    pid = procfs.decimal(note.strip())
    return note.strip() == "down" or (pid is not None and os.path.isdir(f"/proc/{pid}"))


def told(folder: str, present: Table, wanted: Table) -> Table:
    """What of the kernel's table keepalived was told: what is wanted, and what has a weight's file. The rest is others'."""
    services = {}
    for key, service in present.services.items():
        asked = wanted.services[key].servers if key in wanted.services else {}
        servers = {
            name: server
            for name, server in service.servers.items()
            if name in asked or os.path.exists(os.path.join(folder, name_of(key, name)))
        }
        if servers or key in wanted.services:
            services[key] = replace(service, servers=servers)
    return replace(present, services=services)


def leaving(ours: Table, wanted: Table) -> Table:
    """Servers that keepalived still has although nobody wants them, at weight 0.

    Taken out of its configuration with connections, their clients would hang; so they stay in it until they are empty.
    """
    services = {}
    for key, service in ours.services.items():
        kept = wanted.services[key].servers if key in wanted.services else {}
        gone = {name: replace(server, weight=0) for name, server in service.servers.items() if name not in kept}
        if gone:
            services[key] = replace(service, servers=gone)
    return Table(services)


def without(table: Table, names: Iterable[str]) -> Table:
    """A table without servers, named as ``plan.Leaving.name``, and without services of which none is left."""
    gone = set(names)
    services = {}
    for key, service in table.services.items():
        kept = {name: server for name, server in service.servers.items() if f"{key} {name}" not in gone}
        if kept:
            services[key] = replace(service, servers=kept)
    return replace(table, services=services)


def joined(wanted: Table, left: Table) -> Table:
    """What keepalived is to be told: what is wanted, and who leaves."""
    services = dict(wanted.services)
    for key, service in left.services.items():
        base = services.get(key, service)
        services[key] = replace(base, servers={**base.servers, **service.servers})
    return replace(wanted, services=services)


def clean(folder: str, told_table: Table) -> None:
    """Remove the files of servers that keepalived no longer knows. Raises OSError."""
    names = {name_of(key, server) for key, service in told_table.services.items() for server in service.servers}
    for target in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        name = target[: -len(".target")]
        if target.endswith(".target") and name not in names:
            path = os.path.join(folder, name)
            for one in (path, path + ".ramp", target_of(path)):
                if os.path.exists(one):
                    files.remove(one)


def write(folder: str, wanted: Table) -> list[dict[str, Any]]:
    """Write what differs; returns it as changes. A server that starts slowly gets a new goal, not a jump. Raises OSError."""
    moved: list[dict[str, Any]] = []
    for path, key, server, before, ramp in list(_due(folder, wanted)):
        if not moved:
            files.given_folder(os.path.dirname(folder))
            os.makedirs(folder, mode=0o755, exist_ok=True)
        data = value_of(server.weight).encode("ascii")
        files.write(target_of(path), data, 0o644)
        if not ramp or server.weight == 0:
            files.write(path, data, 0o644)
        moved.append(_change(key, server, before))
    return moved


def due(folder: str, wanted: Table) -> list[dict[str, Any]]:
    """What ``write`` would change."""
    return [_change(key, server, before) for _path, key, server, before, _ramp in _due(folder, wanted)]


def _due(folder: str, wanted: Table) -> Iterator[tuple[str, ServiceKey, Server, int | None, bool]]:
    for key in sorted(wanted.services):
        for server_key in sorted(wanted.services[key].servers):
            server = wanted.services[key].servers[server_key]
            path = os.path.join(folder, name_of(key, server_key))
            goal, before, ramp = weight_in(target_of(path)), weight_in(path), ramping(path)
            if goal != server.weight or before is None or (before != server.weight and not ramp):
                yield path, key, server, goal if goal is not None else before, ramp


def _change(key: ServiceKey, server: Server, before: int | None) -> dict[str, Any]:
    return {
        "op": "track_weight",
        "service": str(key),
        "server": str(server.key),
        "before": None if before is None else {"weight": before},
        "after": {"weight": server.weight},
        "connections": 0,
    }


def expected(folder: str, wanted: Table) -> Table:
    """What the kernel should hold once keepalived took the files: a ramping server has the weight of its file, not its goal."""
    services = {}
    for key, service in wanted.services.items():
        servers: dict[ServerKey, Server] = {}
        for server_key, server in service.servers.items():
            found = weight_in(os.path.join(folder, name_of(key, server_key)))
            servers[server_key] = replace(server, weight=server.weight if found is None else max(0, found))
        services[key] = replace(service, servers=servers)
    return Table(services, wanted.timeouts, wanted.daemons)


def drift(present: Table, expected_table: Table) -> tuple[list[dict[str, str]], list[str]]:
    """(differences between the kernel and what keepalived was told, servers that its checks hold at weight 0 or out)."""
    found: list[dict[str, str]] = []
    down: list[str] = []

    def differs(subject: str, text: str) -> None:
        found.append({"subject": subject, "text": text})

    for key, service in sorted(expected_table.services.items()):
        now = present.services.get(key)
        if now is None:
            differs(str(key), "is not in the kernel")
            continue
        if now.settings() != service.settings():
            differs(str(key), f"has {now.settings()}, should have {service.settings()}")
        for server_key, server in sorted(service.servers.items()):
            known = now.servers.get(server_key)
            name = f"{key} {server_key}"
            if known is None or (known.weight == 0 and server.weight):
                down.append(name)
                continue
            settings, should = known.settings(), server.settings()
            wrong = [
                f"{word} {settings[word]} instead of {should[word]}" for word in settings if settings[word] != should.get(word)
            ]
            if wrong:
                differs(name, ", ".join(wrong))
        for server_key in sorted(set(now.servers) - set(service.servers)):
            differs(f"{key} {server_key}", "is in the kernel, but not wanted")
    return found, down
