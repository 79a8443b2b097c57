# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""(What is, what is wanted) → one ordered list of changes. Pure: ``changed``, the diff and the writes all come from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._lvs import drain
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import (
    Server,
    ServerKey,
    Service,
    ServiceKey,
    Table,
    Timeouts,
)

#: The order of writing: capacity comes before it goes, and nothing is deleted that was not drained.
ORDER = (
    "set_timeouts",
    "add_service",
    "add_server",
    "edit_service",
    "edit_server",
    "drain_server",
    "delete_server",
    "delete_service",
)
DELETES = ("delete_server", "delete_service")


@dataclass(frozen=True)
class Change:
    """One message to the kernel. before, after: settings, None for not there. connections: on it when it was read."""

    op: str
    service: Service | None
    server: Server | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    connections: int = 0
    timeouts: Timeouts | None = None

    @property
    def name(self) -> str:
        if self.service is None:
            return "timeouts"
        return f"{self.service.key} {self.server.key}" if self.server is not None else str(self.service.key)

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"op": self.op}
        if self.service is not None:
            found["service"] = str(self.service.key)
        if self.server is not None:
            found["server"] = str(self.server.key)
        return {**found, "before": self.before, "after": self.after, "connections": self.connections}


@dataclass(frozen=True)
class Leaving:
    """A real server that has, or is about to get, weight 0. remove: it goes when nobody is on it. decision: drain.DECISIONS."""

    service: ServiceKey
    server: Server
    remove: bool
    connections: int
    age: float
    decision: str

    @property
    def name(self) -> str:
        return f"{self.service} {self.server.key}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "service": str(self.service),
            "server": str(self.server.key),
            "remove": self.remove,
            "active": self.server.active,
            "inactive": self.server.inactive,
            "seconds": round(self.age, 3),
            "decision": self.decision,
        }


@dataclass
class Plan:
    """changes: in the order they are to be written. foreign: services left alone, because nobody said they are ours."""

    changes: list[Change] = field(default_factory=list)
    leaving: list[Leaving] = field(default_factory=list)
    foreign: list[ServiceKey] = field(default_factory=list)

    def of(self, *ops: str) -> list[Change]:
        return [one for one in self.changes if one.op in ops]

    @property
    def at_risk(self) -> int:
        """Connections on real servers that are to be removed."""
        return sum(one.server.connections for one in self.leaving if one.remove)


@dataclass(frozen=True)
class Rules:
    """own: services that this collection made earlier. purge: remove every service that is not wanted.

    until, timeout (seconds), on_timeout, force: see drain.decide. keep_weights: weights that are there stay as they are.
    quiet: also await wanted servers of weight 0.
    """

    own: frozenset[ServiceKey] = frozenset()
    purge: bool = False
    until: str = "empty"
    timeout: float = 300.0
    on_timeout: str = "keep"
    force: bool = False
    keep_weights: bool = False
    quiet: bool = False


def gate(present: Table, wanted: Table, unready: Iterable[tuple[ServiceKey, ServerKey]]) -> Table:
    """What is wanted, without servers that may not join yet. One that serves already stays: the gate is for joining."""
    held: dict[ServiceKey, set[ServerKey]] = {}
    for service_key, server_key in unready:
        held.setdefault(service_key, set()).add(server_key)
    services = {}
    for key, service in wanted.services.items():
        there = present.services[key].servers if key in present.services else {}
        servers = {}
        for server_key, server in service.servers.items():
            if server_key in held.get(key, ()):
                known = there.get(server_key)
                if known is None:
                    continue
                if known.weight == 0:
                    server = replace(server, weight=0)
            servers[server_key] = server
        services[key] = replace(service, servers=servers)
    return replace(wanted, services=services)


def make(present: Table, wanted: Table, rules: Rules, ages: dict[str, float]) -> Plan:
    """ages: seconds each ``Leaving.name`` has been without weight; missing: since now."""
    plan = Plan()
    found: list[Change] = []
    limits = _timeouts(present.timeouts, wanted.timeouts)
    if limits is not None:
        found.append(limits)
    for key in sorted(wanted.services):
        now = present.services.get(key)
        found += _service(now, wanted.services[key], rules, ages, plan)
    for key in sorted(set(present.services) - set(wanted.services)):
        if not rules.purge and key not in rules.own:
            plan.foreign.append(key)
            continue
        service = present.services[key]
        gone = []
        for server_key in sorted(service.servers):
            changes = _leave(service, service.servers[server_key], rules, ages, plan)
            gone.append(any(one.op == "delete_server" for one in changes))
            found += changes
        if all(gone):
            found.append(Change("delete_service", service, None, service.settings(), None))
    rank = {op: number for number, op in enumerate(ORDER)}
    plan.changes = sorted(found, key=lambda change: rank[change.op])
    return plan


def _timeouts(present: Timeouts, wanted: Timeouts) -> Change | None:
    before = present.settings()
    after = {name: value or before[name] for name, value in wanted.settings().items()}
    if before == after:
        return None
    return Change("set_timeouts", None, None, dict(before), after, timeouts=wanted)


def _service(now: Service | None, wanted: Service, rules: Rules, ages: dict[str, float], plan: Plan) -> list[Change]:
    found = []
    if now is None:
        found.append(Change("add_service", wanted, None, None, wanted.settings()))
    elif now.settings() != wanted.settings():
        connections = sum(server.connections for server in now.servers.values())
        found.append(Change("edit_service", wanted, None, now.settings(), wanted.settings(), connections))
    there = now.servers if now is not None else {}
    for key in sorted(wanted.servers):
        server = wanted.servers[key]
        known = there.get(key)
        if known is None:
            found.append(Change("add_server", wanted, server, None, server.settings()))
            continue
        if rules.keep_weights:
            server = replace(server, weight=known.weight)
        if known.settings() != server.settings():
            op = "drain_server" if known.weight and not server.weight else "edit_server"
            found.append(Change(op, wanted, server, known.settings(), server.settings(), known.connections))
        if not server.weight and rules.quiet:
            plan.leaving.append(_leaving(wanted.key, known, False, rules, ages))
    for key in sorted(set(there) - set(wanted.servers)):
        found += _leave(wanted, there[key], rules, ages, plan)
    return found


def _leaving(service: ServiceKey, server: Server, remove: bool, rules: Rules, ages: dict[str, float]) -> Leaving:
    connections = drain.remaining(server, rules.until)
    # Counted while it takes no new connections: a run that was killed before it wrote the weight began nothing.
    age = 0.0 if server.weight else ages.get(f"{service} {server.key}", 0.0)
    # A server that merely takes no new connections is never forced: nothing is deleted.
    on_timeout = rules.on_timeout if remove or rules.on_timeout != "force" else "keep"
    decision = drain.decide(connections, age, rules.timeout, on_timeout, rules.force and remove)
    return Leaving(service, server, remove, connections, age, decision)


def _leave(service: Service, server: Server, rules: Rules, ages: dict[str, float], plan: Plan) -> list[Change]:
    """Weight 0 first, always: between reading that nobody is on it and deleting it, somebody could come."""
    leaving = _leaving(service.key, server, True, rules, ages)
    plan.leaving.append(leaving)
    found = []
    if server.weight:
        quiet = replace(server, weight=0)
        found.append(Change("drain_server", service, quiet, server.settings(), quiet.settings(), server.connections))
    if leaving.decision in ("delete", "force"):
        before = replace(server, weight=0).settings()
        found.append(Change("delete_server", service, server, before, None, server.connections))
    return found


def foresee(present: Table, changes: Iterable[Change]) -> Table:
    """The table after the changes, for check mode's diff."""
    services = {key: replace(one, servers=dict(one.servers)) for key, one in present.services.items()}
    limits = present.timeouts
    for change in changes:
        if change.op == "set_timeouts" and change.after is not None:
            limits = Timeouts(**change.after)
        if change.service is None:
            continue
        key = change.service.key
        if change.op == "add_service":
            services[key] = replace(change.service, servers={})
        elif change.op == "edit_service":
            services[key] = replace(change.service, servers=services[key].servers)
        elif change.op == "delete_service":
            services.pop(key, None)
        elif change.server is not None and key in services:
            servers = services[key].servers
            if change.op == "delete_server":
                servers.pop(change.server.key, None)
            else:
                known = servers.get(change.server.key)
                counts = (known.active, known.inactive, known.persistent) if known is not None else (0, 0, 0)
                servers[change.server.key] = replace(change.server, active=counts[0], inactive=counts[1], persistent=counts[2])
    return Table(services, limits, present.daemons)


def lines(table: Table, only: Iterable[ServiceKey] | None = None) -> str:
    """The settings of a table as text for a diff; counters left out. only: these services."""
    keys = sorted(table.services if only is None else set(only) & set(table.services))
    text = [f"timeouts {_words(table.timeouts.settings())}"] if any(table.timeouts.settings().values()) else []
    for key in keys:
        service = table.services[key]
        text.append(f"{key} {_words(service.settings())}")
        for server_key in sorted(service.servers):
            settings = service.servers[server_key].settings()
            del settings["address"], settings["port"]
            text.append(f"  -> {server_key} {_words(settings)}")
    return "".join(line + "\n" for line in text)


def _words(settings: dict[str, Any]) -> str:
    shown = []
    for name, value in settings.items():
        if isinstance(value, dict):
            value = ",".join(f"{inner}={one}" for inner, one in value.items())
        elif isinstance(value, list):
            value = ",".join(str(one) for one in value) or "-"
        shown.append(f"{name}={value}")
    return " ".join(shown)
