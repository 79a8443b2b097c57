# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What is known to go wrong with a wanted table on this host, found before anything is written. Pure.

Each rule has one way to be triggered and one sentence that says what to do; the page docs/lvs.md lists them.
Sources: Documentation/networking/ipvs-sysctl.rst, net/netfilter/ipvs/ of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import (
    MAX_WEIGHT,
    ONE_PACKET,
    SCHED_1,
    Server,
    Service,
    ServiceKey,
    Table,
)

#: One round of wrr takes max/gcd passes under the service's lock, and a server gets its surplus in one burst.
WRR_ROUNDS = 64
#: Weights of mh after division by their gcd are shifted right until they are below this (default table of 4093 entries).
MH_WEIGHTS = 64

RULES: dict[str, str] = {
    "scheduler-missing": "error",
    "fallback-missing": "error",
    "port-differs": "error",
    "not-on-link": "error",
    "weight-range": "error",
    "thresholds": "error",
    "one-packet-tcp": "error",
    "family-mixed": "error",
    "sync-mixed-family": "error",
    "persistence-drain": "error",
    "port-reuse": "warning",
    "reuse-stall": "warning",
    "nodest-hang": "warning",
    "sloppy-tcp": "warning",
    "sloppy-tcp-missing": "warning",
    "wrr-burst": "warning",
    "mh-resolution": "warning",
    "director-serves": "warning",
    "unknown": "warning",
}


@dataclass(frozen=True)
class Route:
    """How the host reaches an address. gateway: None when it is a neighbour. local: the address is the host's own."""

    gateway: str | None = None
    local: bool = False
    reachable: bool = True


@dataclass
class Host:
    """What the rules need to know. kernel: (major, minor). sysctls: of net.ipv4.vs, without the prefix; missing: not known.

    schedulers: name → is it there or can it be loaded; None: could not tell. routes: address → Route, None: could not tell;
    missing: not asked.
    """

    kernel: tuple[int, int] = (0, 0)
    sysctls: dict[str, int] = field(default_factory=dict)
    schedulers: dict[str, bool | None] = field(default_factory=dict)
    routes: dict[str, Route | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Lint:
    """id: a key of RULES. subject: the service, server or sysctl. fix: what to do."""

    id: str
    subject: str
    text: str
    fix: str

    @property
    def severity(self) -> str:
        return RULES[self.id]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "severity": self.severity, "subject": self.subject, "text": self.text, "fix": self.fix}


def check(wanted: Table, present: Table, host: Host, quieting: set[ServiceKey], force: bool = False) -> list[Lint]:
    """quieting: services of which a server has, or is about to get, weight 0. force: servers may be deleted with connections."""
    found: list[Lint] = []
    for key in sorted(wanted.services):
        found += _service(wanted.services[key], host, key in quieting)
    found += _sync(wanted, present)
    found += _sysctls(wanted, present, host, bool(quieting), force)
    return found


def _service(service: Service, host: Host, quieting: bool) -> Iterator[Lint]:
    name = str(service.key)
    known = host.schedulers.get(service.scheduler)
    if known is False:
        yield Lint(
            "scheduler-missing",
            name,
            f"the kernel has no scheduler {service.scheduler}: neither loaded nor among the modules of the running kernel",
            f"install the module ip_vs_{service.scheduler} (often in linux-modules-extra), or take another scheduler",
        )
    elif known is None:
        yield Lint("unknown", name, f"could not tell whether the kernel has scheduler {service.scheduler}", "look by hand")
    if service.scheduler in ("mh", "sh") and not service.flags & SCHED_1 and quieting:
        yield Lint(
            "fallback-missing",
            name,
            f"{service.scheduler} without {service.scheduler}-fallback refuses clients whose server has weight 0",
            f"add the flag {service.scheduler}-fallback to the service",
        )
    if service.flags & ONE_PACKET and service.key.protocol not in ("udp", ""):
        yield Lint("one-packet-tcp", name, "one-packet scheduling is for UDP", "remove the flag one-packet")
    if service.persistence and quieting:
        known_quiescent = host.sysctls.get("expire_quiescent_template")
        if not known_quiescent:
            said = "is 0" if known_quiescent == 0 else "could not be read"
            yield Lint(
                "persistence-drain",
                name,
                f"net.ipv4.vs.expire_quiescent_template {said}: known clients of a server with weight 0 are still sent to it, "
                "so its drain may never end",
                "sysctl -w net.ipv4.vs.expire_quiescent_template=1",
            )
    yield from _weights(service)
    for key in sorted(service.servers):
        yield from _server(service, service.servers[key], host)


def _weights(service: Service) -> Iterator[Lint]:
    weights = [server.weight for server in service.servers.values() if server.weight]
    if not weights:
        return
    divisor = reduce(gcd, weights)
    top = max(weights) // divisor
    if service.scheduler == "wrr" and len(weights) > 1 and top > WRR_ROUNDS:
        yield Lint(
            "wrr-burst",
            str(service.key),
            f"the largest weight is {top} times the common divisor: wrr takes that many passes a round and serves in bursts",
            "use small integers; the filter netops.fleet.lvs_weights makes them",
        )
    if service.scheduler == "mh" and top >= MH_WEIGHTS:
        yield Lint(
            "mh-resolution",
            str(service.key),
            f"weights up to {top} (divided by their gcd): mh keeps 6 bits, so their proportions change",
            "use weights up to 63; the filter netops.fleet.lvs_weights makes them",
        )


def _server(service: Service, server: Server, host: Host) -> Iterator[Lint]:
    name = f"{service.key} {server.key}"
    family = 6 if ":" in server.key.address else 4
    if not 0 <= server.weight <= MAX_WEIGHT:
        yield Lint("weight-range", name, f"weight {server.weight}; allowed are 0 to {MAX_WEIGHT}", "divide the weights")
    if server.lower > server.upper:
        yield Lint(
            "thresholds",
            name,
            f"lower threshold {server.lower} is above the upper one, {server.upper}; the kernel refuses it",
            "make the lower threshold the smaller one; without an upper one it means nothing",
        )
    if server.forward in ("dr", "tunnel") and server.key.port != service.key.port:
        yield Lint(
            "port-differs",
            name,
            f"{server.forward} does not change the port: packets arrive at port {service.key.port} whatever is written here",
            f"give the server port {service.key.port}, or forward with nat",
        )
    if family != service.key.family and server.forward != "tunnel":
        yield Lint("family-mixed", name, "a server of another address family can be reached by tunnel only", "forward: tunnel")
    if server.forward != "dr" or server.key.address not in host.routes:
        return
    route = host.routes[server.key.address]
    if route is None:
        yield Lint("unknown", name, "could not tell how the host reaches this server", "ip route get " + server.key.address)
    elif route.local:
        if not host.sysctls.get("backup_only"):
            yield Lint(
                "director-serves",
                name,
                "the director is one of its real servers: two such directors send the same packet to each other for ever",
                "sysctl -w net.ipv4.vs.backup_only=1",
            )
    elif not route.reachable or route.gateway:
        how = f"through {route.gateway}" if route.gateway else "not at all"
        yield Lint(
            "not-on-link",
            name,
            f"the host reaches it {how}; dr changes the MAC address only, so the server must be on the director's segment",
            "put both on one segment, or forward by tunnel",
        )


def _sync(wanted: Table, present: Table) -> Iterator[Lint]:
    if not present.daemons:
        return
    for service in wanted.services.values():
        for server in service.servers.values():
            if (6 if ":" in server.key.address else 4) != service.key.family:
                yield Lint(
                    "sync-mixed-family",
                    f"{service.key} {server.key}",
                    "the kernel refuses servers of another address family while a sync daemon runs",
                    "stop the sync daemon, or use servers of the service's family",
                )


def _sysctls(wanted: Table, present: Table, host: Host, quieting: bool, force: bool) -> Iterator[Lint]:
    def value(name: str) -> int | None:
        return host.sysctls.get(name)

    if quieting and value("conn_reuse_mode") == 0:
        yield Lint(
            "port-reuse",
            "net.ipv4.vs.conn_reuse_mode",
            "is 0: a client that uses a port again is sent to its old server, even one of weight 0, whose drain may never end",
            "sysctl -w net.ipv4.vs.conn_reuse_mode=1",
        )
    if (0, 0) < host.kernel < (5, 9) and value("conn_reuse_mode") and value("conntrack"):
        yield Lint(
            "reuse-stall",
            "net.ipv4.vs.conntrack",
            f"kernel {host.kernel[0]}.{host.kernel[1]}, before 5.9, delays a client that uses a port again by a second",
            "sysctl -w net.ipv4.vs.conntrack=0 (dr needs no connection tracking)",
        )
    if force and value("expire_nodest_conn") == 0:
        yield Lint(
            "nodest-hang",
            "net.ipv4.vs.expire_nodest_conn",
            "is 0: clients of a server that is deleted with connections get no answer until they give up",
            "sysctl -w net.ipv4.vs.expire_nodest_conn=1, then they are reset and can connect again",
        )
    schedulers = {service.scheduler for service in wanted.services.values() if service.key.protocol in ("tcp", "")}
    if value("sloppy_tcp") == 1 and schedulers - {"mh"}:
        yield Lint(
            "sloppy-tcp",
            "net.ipv4.vs.sloppy_tcp",
            f"is 1, for all services: any packet opens a connection, and only mh finds the same server ({_list(schedulers)})",
            "sysctl -w net.ipv4.vs.sloppy_tcp=0, or use mh",
        )
    if schedulers == {"mh"} and value("sloppy_tcp") == 0 and not present.daemons:
        yield Lint(
            "sloppy-tcp-missing",
            "net.ipv4.vs.sloppy_tcp",
            "is 0 and no sync daemon runs: a second director with the same weights would know the server, but drops the packets",
            "sysctl -w net.ipv4.vs.sloppy_tcp=1 on all directors, or run a sync daemon; nothing to do with a single director",
        )


def _list(words: set[str]) -> str:
    return ", ".join(sorted(words))
