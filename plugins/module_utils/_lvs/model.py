# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Virtual services and real servers, as the kernel has them and as they are wanted: one form for both.

Sources: include/uapi/linux/ip_vs.h, ipvsadm(8), Documentation/networking/ipvs-sysctl.rst.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

PROTOCOLS = ("tcp", "udp", "sctp")
FORWARDS = ("dr", "tunnel", "nat", "local", "bypass")
TUNNELS = ("ipip", "gue", "gre")

#: Kernel's bits of a service's flags. Three belong to the scheduler; their meaning depends on it.
PERSISTENT, HASHED, ONE_PACKET, SCHED_1, SCHED_2, SCHED_3 = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
FLAG_BITS = {
    "one-packet": ONE_PACKET,
    "sh-fallback": SCHED_1,
    "sh-port": SCHED_2,
    "mh-fallback": SCHED_1,
    "mh-port": SCHED_2,
    "flag-1": SCHED_1,
    "flag-2": SCHED_2,
    "flag-3": SCHED_3,
}

#: The kernel takes any positive int; ipvsadm(8) says 0 to 65535, and larger ones overflow sums in some schedulers: lint's to say.
MAX_WEIGHT = 65535
_MAX_INT = 0x7FFFFFFF


class Wrong(ValueError):
    """What is wanted cannot be; the message says where, what was found and what is allowed."""


class ServiceKey(NamedTuple):
    """What the kernel knows a virtual service by. fwmark: 0 for one known by address; then protocol and port count."""

    family: int
    protocol: str
    address: str
    port: int
    fwmark: int

    def __str__(self) -> str:
        if self.fwmark:
            return f"fwmark/{self.fwmark}" + ("/ipv6" if self.family == 6 else "")
        return f"{self.protocol}/{endpoint(self.address, self.port)}"


class ServerKey(NamedTuple):
    """What the kernel knows a real server of a service by."""

    address: str
    port: int

    def __str__(self) -> str:
        return endpoint(self.address, self.port)


@dataclass(frozen=True)
class Server:
    """A real server. upper, lower: connection thresholds, 0 for none. active, inactive, persistent: connections now.

    tunnel_*: only of forward "tunnel"; flags: 0 none, 1 checksum, 2 remote checksum offload (of gue and gre).
    """

    key: ServerKey
    forward: str = "dr"
    weight: int = 1
    upper: int = 0
    lower: int = 0
    tunnel: str = "ipip"
    tunnel_port: int = 0
    tunnel_flags: int = 0
    active: int = 0
    inactive: int = 0
    persistent: int = 0

    @property
    def connections(self) -> int:
        return self.active + self.inactive

    def settings(self) -> dict[str, Any]:
        """What can be wanted of it, without what the kernel counts."""
        found: dict[str, Any] = {
            "address": self.key.address,
            "port": self.key.port,
            "forward": self.forward,
            "weight": self.weight,
            "upper_threshold": self.upper,
            "lower_threshold": self.lower,
        }
        if self.forward == "tunnel":
            found["tunnel"] = {"type": self.tunnel, "port": self.tunnel_port, "flags": self.tunnel_flags}
        return found

    def to_dict(self) -> dict[str, Any]:
        return {**self.settings(), "active": self.active, "inactive": self.inactive, "persistent": self.persistent}


@dataclass(frozen=True)
class Service:
    """A virtual service. flags: the kernel's bits without PERSISTENT and HASHED. persistence: seconds, 0 for none.

    netmask: prefix length that persistence groups clients by.
    """

    key: ServiceKey
    scheduler: str = "wlc"
    flags: int = 0
    persistence: int = 0
    netmask: int = 32
    engine: str = ""
    servers: dict[ServerKey, Server] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "scheduler": self.scheduler,
            "flags": flag_names(self.scheduler, self.flags),
            "persistence": self.persistence,
        }
        if self.persistence:
            found["netmask"] = self.netmask
        if self.engine:
            found["persistence_engine"] = self.engine
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "service": str(self.key),
            **self.settings(),
            "servers": [self.servers[key].to_dict() for key in sorted(self.servers)],
        }


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which the kernel forgets an idle connection; 0 in what is wanted: leave it as it is."""

    tcp: int = 0
    tcp_fin: int = 0
    udp: int = 0

    def settings(self) -> dict[str, int]:
        return {"tcp": self.tcp, "tcp_fin": self.tcp_fin, "udp": self.udp}


@dataclass(frozen=True)
class Daemon:
    """A connection-sync daemon of the kernel. state: master or backup."""

    state: str
    interface: str
    sync_id: int


@dataclass(frozen=True)
class Table:
    """All of one network namespace."""

    services: dict[ServiceKey, Service] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    daemons: tuple[Daemon, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "services": [self.services[key].to_dict() for key in sorted(self.services)],
            "timeouts": self.timeouts.settings(),
            "sync": [{"state": one.state, "interface": one.interface, "sync_id": one.sync_id} for one in self.daemons],
        }


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def flag_names(scheduler: str, flags: int) -> list[str]:
    """The words for a service's flags; those of the scheduler where it has words for them."""
    words = {"mh": ("mh-fallback", "mh-port"), "sh": ("sh-fallback", "sh-port")}.get(scheduler, ("flag-1", "flag-2"))
    named = ((ONE_PACKET, "one-packet"), (SCHED_1, words[0]), (SCHED_2, words[1]), (SCHED_3, "flag-3"))
    return [word for bit, word in named if flags & bit]


def parse_key(text: str) -> ServiceKey:
    """The reverse of str(ServiceKey). Raises Wrong."""
    parts = text.split("/")
    try:
        if parts[0] == "fwmark":
            return ServiceKey(6 if parts[2:] == ["ipv6"] else 4, "", "", 0, int(parts[1]))
        protocol, where = parts
        address, _colon, port = where.rpartition(":")
        found = ipaddress.ip_address(address.strip("[]"))
        if protocol not in PROTOCOLS:
            raise ValueError
        return ServiceKey(found.version, protocol, str(found), int(port), 0)
    except (ValueError, IndexError):
        raise Wrong(f"{text!r} is no service; allowed is tcp/192.0.2.80:8080, udp/[2001:db8::80]:53, fwmark/7") from None


def _address(text: object, where: str) -> str:
    """As the kernel's answers are written."""
    word = str(text)
    family = socket.AF_INET6 if ":" in word else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, word))
    except (OSError, ValueError):
        raise Wrong(f"{where}: {text!r} is no IP address; names are not looked up here, write the address") from None


def _number(value: object, where: str, least: int, most: int) -> int:
    # bool is an int to Python, and "yes" for a weight is a mistake.
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise Wrong(f"{where}: {value!r} is no number; allowed are {least} to {most}")
    try:
        number = int(value)
    except ValueError:
        raise Wrong(f"{where}: {value!r} is no number; allowed are {least} to {most}") from None
    if not least <= number <= most:
        raise Wrong(f"{where}: {number} is out of range; allowed are {least} to {most}")
    return number


def wanted_service(entry: dict[str, Any]) -> Service:
    """A service of the module's option ``services`` as a Service. Raises Wrong."""
    key = _wanted_key(entry)
    where = f"service {key}"
    scheduler = str(entry.get("scheduler") or "wrr")
    if not scheduler.replace("_", "").isalnum():
        raise Wrong(f"{where}: {scheduler!r} is no scheduler; see ipvsadm(8) for their names")
    flags = 0
    for word in entry.get("flags") or []:
        if word not in FLAG_BITS:
            raise Wrong(f"{where}: flag {word!r} is not known; allowed are {', '.join(sorted(FLAG_BITS))}")
        if word[:3] in ("mh-", "sh-") and word[:2] != scheduler:
            raise Wrong(f"{where}: flag {word!r} belongs to scheduler {word[:2]}, not to {scheduler}")
        flags |= FLAG_BITS[word]
    whole = 128 if key.family == 6 else 32
    persistence = _number(entry.get("persistence") or 0, f"{where}, persistence", 0, 31 * 86400)
    service = Service(
        key=key,
        scheduler=scheduler,
        flags=flags,
        persistence=persistence,
        netmask=_number(entry.get("netmask") or whole, f"{where}, netmask", 1, whole) if persistence else whole,
        engine=str(entry.get("persistence_engine") or ""),
    )
    servers: dict[ServerKey, Server] = {}
    for one in entry.get("servers") or []:
        server = _wanted_server(one, key, where)
        if server.key in servers:
            raise Wrong(f"{where}: server {server.key} is given twice")
        servers[server.key] = server
    return replace(service, servers=servers)


def entry_of(service: Service) -> dict[str, Any]:
    """The reverse of wanted_service: as it would be wanted."""
    key = service.key
    if key.fwmark:
        found: dict[str, Any] = {"fwmark": key.fwmark, "family": f"ipv{key.family}"}
    else:
        found = {"address": key.address, "port": key.port, "protocol": key.protocol}
    servers = []
    for name in sorted(service.servers):
        server = service.servers[name].settings()
        if "tunnel" in server:
            server["tunnel"] = {**server["tunnel"], "checksum": bool(server["tunnel"].pop("flags") & 1)}
        servers.append(server)
    return {**found, **service.settings(), "servers": servers}


def _wanted_key(entry: dict[str, Any]) -> ServiceKey:
    fwmark = entry.get("fwmark")
    if fwmark:
        if entry.get("address") or entry.get("port"):
            raise Wrong(f"service fwmark {fwmark}: has an address or a port too; a service is known by one or the other")
        family = 6 if str(entry.get("family") or "ipv4") == "ipv6" else 4
        return ServiceKey(family, "", "", 0, _number(fwmark, f"service fwmark {fwmark}", 1, 0xFFFFFFFF))
    if not entry.get("address"):
        raise Wrong("a service has neither address nor fwmark; give one of them")
    address = _address(entry["address"], "service")
    protocol = str(entry.get("protocol") or "tcp")
    if protocol not in PROTOCOLS:
        raise Wrong(f"service {address}: protocol {protocol!r}; allowed are {', '.join(PROTOCOLS)}")
    # Port 0 is every port, which the kernel allows with persistence only.
    least = 0 if entry.get("persistence") else 1
    return ServiceKey(
        6 if ":" in address else 4,
        protocol,
        address,
        _number(entry.get("port"), f"service {address}, port", least, 65535),
        0,
    )


def _wanted_server(entry: dict[str, Any], service: ServiceKey, where: str) -> Server:
    address = _address(entry.get("address"), f"{where}, server")
    try:
        return _settings(entry, address, service.port)
    except Wrong as error:
        raise Wrong(f"{where}, server {address}, {error}") from None


def _settings(entry: dict[str, Any], address: str, port: int) -> Server:
    """port: the service's, which is the server's where it has none of its own. Raises Wrong without saying whose it is."""
    given = entry.get("port")
    forward = str(entry.get("forward") or "dr")
    if forward not in FORWARDS[:3]:
        raise Wrong(f"forward {forward!r}; allowed are {', '.join(FORWARDS[:3])}")
    weight = entry.get("weight")
    tunnel: dict[str, Any] = entry.get("tunnel") or {} if forward == "tunnel" else {}
    kind = str(tunnel.get("type") or "ipip")
    if kind not in TUNNELS:
        raise Wrong(f"tunnel {kind!r}; allowed are {', '.join(TUNNELS)}")
    return Server(
        key=ServerKey(address, _number(port if given is None else given, "port", 0, 65535)),
        forward=forward,
        weight=_number(1 if weight is None else weight, "weight", 0, _MAX_INT),
        upper=_number(entry.get("upper_threshold") or 0, "upper_threshold", 0, _MAX_INT),
        lower=_number(entry.get("lower_threshold") or 0, "lower_threshold", 0, _MAX_INT),
        tunnel=kind,
        tunnel_port=_number(tunnel.get("port") or 0, "tunnel port", 0, 65535),
        tunnel_flags=1 if tunnel.get("checksum") else 0,
    )


def wanted_table(services: list[dict[str, Any]], timeouts: dict[str, Any] | None = None) -> Table:
    """The module's options as a Table. Raises Wrong."""
    found: dict[ServiceKey, Service] = {}
    for entry in services:
        service = wanted_service(entry)
        if service.key in found:
            raise Wrong(f"service {service.key} is given twice")
        found[service.key] = service
    limits = {
        name: _number(value, f"timeouts, {name}", 1, _MAX_INT // 1000)
        for name, value in (timeouts or {}).items()
        if value is not None
    }
    return Table(found, Timeouts(**limits))
