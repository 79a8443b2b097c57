# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Generic netlink of IPVS: attributes into the model and back. Building and reading bytes needs no kernel.

Source: include/uapi/linux/ip_vs.h and net/netfilter/ipvs/ip_vs_ctl.c. Ports are in network order; a service's netmask is in
network order for IPv4 and the prefix length in the machine's order for IPv6; all else is in the machine's order.
Edits replace everything in the kernel, so an object is always sent whole.
"""

from __future__ import annotations

import functools
import socket
import struct
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import (
    HASHED,
    PERSISTENT,
    TUNNELS,
    Daemon,
    Server,
    ServerKey,
    Service,
    ServiceKey,
    Table,
    Timeouts,
)

VERSION = 1
NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
GET_DAEMON, SET_CONFIG, GET_CONFIG = 11, 12, 13

_A_SERVICE, _A_DEST, _A_DAEMON, _A_TCP, _A_TCP_FIN, _A_UDP = 1, 2, 3, 4, 5, 6
_S_AF, _S_PROTOCOL, _S_ADDR, _S_PORT, _S_FWMARK, _S_SCHED, _S_FLAGS, _S_TIMEOUT, _S_NETMASK, _S_PE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 11
_D_ADDR, _D_PORT, _D_FORWARD, _D_WEIGHT, _D_UPPER, _D_LOWER, _D_ACTIVE, _D_INACTIVE, _D_PERSISTENT = 1, 2, 3, 4, 5, 6, 7, 8, 9
_D_AF, _D_TUN_TYPE, _D_TUN_PORT, _D_TUN_FLAGS = 11, 13, 14, 15
_Y_STATE, _Y_IFN, _Y_ID = 1, 2, 3

_PROTOCOL = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}
_PROTOCOL_NAME = {number: name for name, number in _PROTOCOL.items()}
#: IP_VS_CONN_F_*: the numbers of FORWARDS.
_FORWARD = {"nat": 0, "local": 1, "tunnel": 2, "dr": 3, "bypass": 4}
_FORWARD_NAME = {number: name for name, number in _FORWARD.items()}
_FORWARD_MASK = 7
_MASK_ALL = 0xFFFFFFFF

Pairs = "list[tuple[int, netlink.AttributeValue]]"


class Unreadable(ValueError):
    """The kernel's answer lacks what every answer has; nothing may be concluded from it."""


def _family(version: int) -> int:
    return int(socket.AF_INET6 if version == 6 else socket.AF_INET)


def _packed(address: str) -> bytes:
    """16 bytes, as union nf_inet_addr."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address).ljust(16, b"\0")


def _text(data: bytes, version: int) -> str:
    if version == 6:
        return socket.inet_ntop(socket.AF_INET6, data[:16])
    return socket.inet_ntop(socket.AF_INET, data[:4])


def header(command: int) -> bytes:
    return struct.pack("=BBH", command, VERSION, 0)


def _key(key: ServiceKey) -> list[tuple[int, netlink.AttributeValue]]:
    pairs: list[tuple[int, netlink.AttributeValue]] = [(_S_AF, struct.pack("=H", _family(key.family)))]
    if key.fwmark:
        return [*pairs, (_S_FWMARK, key.fwmark)]
    return [
        *pairs,
        (_S_PROTOCOL, struct.pack("=H", _PROTOCOL[key.protocol])),
        (_S_ADDR, _packed(key.address)),
        (_S_PORT, struct.pack("!H", key.port)),
    ]


@functools.lru_cache(maxsize=64)
def _of_service(key: ServiceKey) -> bytes:
    """The attribute that says which service; the same in the messages of all its servers."""
    return netlink.pack([(_A_SERVICE, _key(key))])


def _service(service: Service) -> list[tuple[int, netlink.AttributeValue]]:
    flags = service.flags | (PERSISTENT if service.persistence else 0)
    if service.key.family == 6:
        netmask = struct.pack("=I", service.netmask)
    else:
        netmask = struct.pack("!I", (0xFFFFFFFF << (32 - service.netmask)) & 0xFFFFFFFF)
    pairs = [
        *_key(service.key),
        (_S_SCHED, service.scheduler),
        # The mask says which bits are meant: all but the kernel's own.
        (_S_FLAGS, struct.pack("=II", flags, _MASK_ALL & ~HASHED)),
        (_S_TIMEOUT, service.persistence),
        (_S_NETMASK, netmask),
    ]
    if service.engine:
        pairs.append((_S_PE, service.engine))
    return pairs


def _server(server: Server) -> list[tuple[int, netlink.AttributeValue]]:
    pairs: list[tuple[int, netlink.AttributeValue]] = [
        *_server_key(server.key),
        (_D_FORWARD, _FORWARD[server.forward]),
        (_D_WEIGHT, server.weight),
        (_D_UPPER, server.upper),
        (_D_LOWER, server.lower),
    ]
    if server.forward == "tunnel":
        pairs += [
            (_D_TUN_TYPE, struct.pack("=B", TUNNELS.index(server.tunnel))),
            (_D_TUN_PORT, struct.pack("!H", server.tunnel_port)),
            (_D_TUN_FLAGS, struct.pack("=H", server.tunnel_flags)),
        ]
    return pairs


def _server_key(key: ServerKey) -> list[tuple[int, netlink.AttributeValue]]:
    version = 6 if ":" in key.address else 4
    return [
        (_D_ADDR, _packed(key.address)),
        (_D_PORT, struct.pack("!H", key.port)),
        (_D_AF, struct.pack("=H", _family(version))),
    ]


def service_message(command: int, service: Service) -> bytes:
    """NEW_SERVICE, SET_SERVICE (whole) or DEL_SERVICE (the key)."""
    pairs = _key(service.key) if command == DEL_SERVICE else _service(service)
    return header(command) + netlink.pack([(_A_SERVICE, pairs)])


def server_message(command: int, service: ServiceKey, server: Server) -> bytes:
    """NEW_DEST, SET_DEST (whole) or DEL_DEST (the key)."""
    pairs = _server_key(server.key) if command == DEL_DEST else _server(server)
    return header(command) + _of_service(service) + netlink.pack([(_A_DEST, pairs)])


def servers_request(service: ServiceKey) -> bytes:
    return header(GET_DEST) + _of_service(service)


def timeouts_message(timeouts: Timeouts) -> bytes:
    """0 leaves a time as it is."""
    return header(SET_CONFIG) + netlink.pack([(_A_TCP, timeouts.tcp), (_A_TCP_FIN, timeouts.tcp_fin), (_A_UDP, timeouts.udp)])


def _nested(body: bytes, kind: int, needed: tuple[int, ...], what: str) -> dict[int, bytes]:
    """The attributes within one of a message; Unreadable when one that is always there is missing or short."""
    inner = netlink.attributes(body, 4).get(kind)
    found = netlink.attributes(inner) if inner is not None else {}
    if not found.keys() >= set(needed):
        raise Unreadable(f"an answer of the kernel about a {what} lacks what every such answer has")
    return found


def read_service(body: bytes) -> Service:
    """A service without its servers from the payload of one answer. Raises Unreadable."""
    found = _nested(body, _A_SERVICE, (_S_AF, _S_SCHED, _S_FLAGS), "virtual service")
    version = 6 if netlink.number(found[_S_AF]) == _family(6) else 4
    fwmark = netlink.number(found.get(_S_FWMARK))
    try:
        if fwmark:
            key = ServiceKey(version, "", "", 0, fwmark)
        else:
            number = netlink.number(found[_S_PROTOCOL])
            key = ServiceKey(
                version,
                _PROTOCOL_NAME.get(number, str(number)),
                _text(found[_S_ADDR], version),
                struct.unpack("!H", found[_S_PORT])[0],
                0,
            )
        flags: int = struct.unpack_from("=I", found[_S_FLAGS])[0]
        if version == 6:
            netmask = netlink.number(found.get(_S_NETMASK), 128)
        else:
            netmask = bin(netlink.number(found.get(_S_NETMASK), _MASK_ALL)).count("1")
    except (KeyError, ValueError, struct.error, OSError):
        raise Unreadable("an answer of the kernel about a virtual service is damaged") from None
    return Service(
        key=key,
        scheduler=netlink.text_of(found[_S_SCHED]),
        flags=flags & ~(PERSISTENT | HASHED),
        persistence=netlink.number(found.get(_S_TIMEOUT)) if flags & PERSISTENT else 0,
        netmask=netmask,
        engine=netlink.text_of(found.get(_S_PE, b"")),
    )


_PORT = struct.Struct("!H")
#: What a server has in numbers of 32 bits.
_NUMBERS, _ZERO = struct.Struct("=7I"), bytes(4)
_NUMBER_KINDS = (_D_FORWARD, _D_WEIGHT, _D_UPPER, _D_LOWER, _D_ACTIVE, _D_INACTIVE, _D_PERSISTENT)


def read_server(body: bytes, service: ServiceKey) -> Server:
    """A real server of ``service`` from the payload of one answer. Raises Unreadable."""
    found = _nested(body, _A_DEST, (_D_ADDR, _D_PORT, _D_FORWARD, _D_WEIGHT), "real server")
    version = service.family
    if _D_AF in found:  # since 3.18
        version = 6 if netlink.number(found[_D_AF]) == _family(6) else 4
    try:
        key = ServerKey(_text(found[_D_ADDR], version), *_PORT.unpack(found[_D_PORT]))
        numbers = b"".join([found.get(one, _ZERO) for one in _NUMBER_KINDS])
        forward, weight, upper, lower, active, inactive, persistent = _NUMBERS.unpack(numbers)
        name = _FORWARD_NAME[forward & _FORWARD_MASK]
        tunnels: dict[str, Any] = {}
        if name == "tunnel":
            tunnels = {
                "tunnel": TUNNELS[netlink.number(found.get(_D_TUN_TYPE))],
                "tunnel_port": _PORT.unpack(found.get(_D_TUN_PORT, b"\0\0"))[0],
                "tunnel_flags": netlink.number(found.get(_D_TUN_FLAGS)),
            }
    except (KeyError, IndexError, ValueError, struct.error, OSError):
        raise Unreadable("an answer of the kernel about a real server is damaged") from None
    return Server(key, name, weight, upper, lower, active=active, inactive=inactive, persistent=persistent, **tunnels)


def read_timeouts(body: bytes) -> Timeouts:
    found = netlink.attributes(body, 4)
    return Timeouts(*(netlink.number(found.get(kind)) for kind in (_A_TCP, _A_TCP_FIN, _A_UDP)))


def read_daemon(body: bytes) -> Daemon:
    found = _nested(body, _A_DAEMON, (_Y_STATE, _Y_IFN), "sync daemon")
    state = {1: "master", 2: "backup"}.get(netlink.number(found[_Y_STATE]), "none")
    return Daemon(state, netlink.text_of(found[_Y_IFN]), netlink.number(found.get(_Y_ID)))


class Ipvs:
    """The IPVS of this network namespace. Use as a context manager. ``writes``: messages that changed something so far.

    Raises netlink.NetlinkError: ENOENT (not there), EPERM. Opening asks for the family, which may load ip_vs: look first.
    """

    def __init__(self) -> None:
        self._socket = netlink.Socket(netlink.GENERIC, timeout=30.0)
        self.writes = 0
        try:
            self._family = netlink.generic_family(self._socket, "IPVS")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Ipvs:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._socket.close()

    def read(self) -> Table:
        """Everything. Raises netlink.Interrupted when it changed during every attempt, Unreadable."""
        services: dict[ServiceKey, Service] = {}
        for _kind, body in self._socket.dump(self._family, header(GET_SERVICE)):
            service = read_service(body)
            services[service.key] = service
        for key, service in services.items():
            service.servers.update((server.key, server) for server in self.servers(key))
        daemons = tuple(read_daemon(body) for _kind, body in self._socket.dump(self._family, header(GET_DAEMON)))
        times = [read_timeouts(body) for _kind, body in self._socket.get(self._family, header(GET_CONFIG))]
        return Table(services, times[0] if times else Timeouts(), daemons)

    def servers(self, service: ServiceKey) -> list[Server]:
        return [read_server(body, service) for _kind, body in self._socket.dump(self._family, servers_request(service))]

    def write(self, messages: list[bytes]) -> list[netlink.NetlinkError | None]:
        """In order; for each None, or why the kernel refused it."""
        told = self._socket.send_all(self._family, messages)
        self.writes += told.count(None)
        return told
