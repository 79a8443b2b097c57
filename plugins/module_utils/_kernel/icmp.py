# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What the network says about a packet of ours: ICMP errors, from a socket's queue of errors or from a raw socket.

Sources: ip(7) IP_RECVERR, ipv6(7), include/uapi/linux/errqueue.h, RFC 792, RFC 1191, RFC 4443
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

IP_RECVERR, IPV6_RECVERR = 11, 25
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_ORIGIN_LOCAL, _ORIGIN_ICMP, _ORIGIN_ICMP6 = 1, 2, 3

#: (type, code) → name, as the tools that make such packets call them.
NAMES4 = {
    (3, 0): "net-unreachable", (3, 1): "host-unreachable", (3, 2): "protocol-unreachable", (3, 3): "port-unreachable",
    (3, 4): "fragmentation-needed", (3, 5): "source-route-failed", (3, 6): "net-unknown", (3, 7): "host-unknown",
    (3, 9): "net-prohibited", (3, 10): "host-prohibited", (3, 13): "admin-prohibited", (11, 0): "ttl-exceeded",
    (11, 1): "reassembly-time-exceeded", (12, 0): "parameter-problem",
}  # fmt: skip
NAMES6 = {
    (1, 0): "no-route", (1, 1): "admin-prohibited", (1, 2): "beyond-scope", (1, 3): "address-unreachable",
    (1, 4): "port-unreachable", (1, 5): "policy-fail", (1, 6): "reject-route", (2, 0): "packet-too-big",
    (3, 0): "hop-limit-exceeded", (3, 1): "reassembly-time-exceeded", (4, 0): "parameter-problem",
}  # fmt: skip
_ERROR_TYPES = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
PORT_UNREACHABLE = ("port-unreachable",)
TTL_EXCEEDED = ("ttl-exceeded", "hop-limit-exceeded")
TOO_BIG = ("fragmentation-needed", "packet-too-big")


@dataclass(frozen=True)
class Error:
    """One ICMP error. family: 4 or 6. sender: who said it. mtu: of the next link, where the message says it.

    protocol, destination, sport, dport: of our packet, as far as the message repeats it; for ICMP, sport is its identifier and
    dport its sequence number.
    """

    family: int
    type: int
    code: int
    sender: str | None
    mtu: int | None = None
    protocol: int | None = None
    destination: str | None = None
    sport: int | None = None
    dport: int | None = None

    @property
    def name(self) -> str:
        names = NAMES4 if self.family == 4 else NAMES6
        return names.get((self.type, self.code), f"type {self.type} code {self.code}")

    def to_dict(self) -> dict[str, Any]:
        """What a probe's result says of it."""
        said: dict[str, Any] = {"type": self.type, "code": self.code, "name": self.name, "sender": self.sender}
        return said if self.mtu is None else {**said, "mtu": self.mtu}


def ask_for_errors(sock: socket.socket, family: int) -> None:
    """Have the kernel queue ICMP errors on this datagram or raw socket."""
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)


def queued(sock: socket.socket) -> list[tuple[Error | None, int, bytes]]:
    """Take what waits in the queue of errors: (the ICMP error, or None for one of this host; errno; our packet's content)."""
    found: list[tuple[Error | None, int, bytes]] = []
    while True:
        try:
            data, ancillary, _flags, _address = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return found
        for level, kind, body in ancillary:
            if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                error = extended(body)
                if error is not None:
                    found.append((error[0], error[1], data))


def extended(body: bytes) -> tuple[Error | None, int] | None:
    """struct sock_extended_err and the offender's address behind it → (ICMP error or None, errno)."""
    if len(body) < 16:
        return None
    number, origin, kind, code, _pad, info, _data = struct.unpack_from("=IBBBBII", body)
    if origin not in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
        return None, int(number)
    family = 4 if origin == _ORIGIN_ICMP else 6
    error = Error(family, kind, code, _offender(body[16:]))
    if error.name in TOO_BIG and info:
        error = Error(family, kind, code, error.sender, mtu=int(info))
    return error, int(number)


def _offender(data: bytes) -> str | None:
    if len(data) < 8:
        return None
    family = struct.unpack_from("=H", data)[0]
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return None


def parse4(packet: bytes) -> Error | None:
    """An ICMP error as a raw IPv4 socket gives it, IP header included; None for anything else."""
    if len(packet) < 20:
        return None
    start = (packet[0] & 0xF) * 4
    if len(packet) < start + 28 or packet[start] not in _ERROR_TYPES[4]:
        return None
    kind, code, _sum, _unused, mtu = struct.unpack_from("!BBHHH", packet, start)
    inner = packet[start + 8 :]
    length = (inner[0] & 0xF) * 4
    sport, dport = _ports(inner[9], inner[length:])
    return Error(
        4, kind, code, socket.inet_ntop(socket.AF_INET, packet[12:16]), mtu if (kind, code) == (3, 4) and mtu else None,
        inner[9], socket.inet_ntop(socket.AF_INET, inner[16:20]), sport, dport,
    )  # fmt: skip


def parse6(message: bytes, sender: str) -> Error | None:
    """An ICMPv6 error as a raw socket gives it, without the IP header; None for anything else."""
    if len(message) < 48 or message[0] not in _ERROR_TYPES[6]:
        return None
    kind, code, _sum, info = struct.unpack_from("!BBHI", message)
    inner = message[8:]
    protocol, offset = inner[6], 40
    while protocol in (0, 43, 60) and len(inner) >= offset + 8:  # extension headers in front of ours
        protocol, offset = inner[offset], offset + 8 * (inner[offset + 1] + 1)
    sport, dport = _ports(protocol, inner[offset:])
    return Error(
        6,
        kind,
        code,
        sender,
        info if kind == 2 else None,
        protocol,
        socket.inet_ntop(socket.AF_INET6, inner[24:40]),
        sport,
        dport,
    )


def _ports(protocol: int, data: bytes) -> tuple[int | None, int | None]:
    if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP, 132) and len(data) >= 4:
        sport, dport = struct.unpack_from("!HH", data)
        return sport, dport
    if protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6) and len(data) >= 8:
        number, sequence = struct.unpack_from("!HH", data, 4)
        return number, sequence
    return None, None


@dataclass
class Watch:
    """Hears the ICMP errors that reach this host while it is open (root), for protocols whose sockets do not tell the sender.

    Use as a context manager. ``why`` says why it hears nothing, when it does not.
    """

    why: str = ""
    _heard: list[Error] = field(default_factory=list)
    _sockets: list[tuple[int, socket.socket]] = field(default_factory=list)
    _news: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        for family, kind, protocol in ((4, socket.AF_INET, socket.IPPROTO_ICMP), (6, socket.AF_INET6, socket.IPPROTO_ICMPV6)):
            try:
                sock = socket.socket(kind, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            except OSError as error:
                if family == 4:
                    self.why = "who sent an ICMP error is heard with root only" if error.errno == 1 else str(error)
                continue
            if family == 4:
                blocked4 = ~sum(1 << one for one in _ERROR_TYPES[4]) & 0xFFFFFFFF
                sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", blocked4))
            else:
                blocked = [0xFFFFFFFF] * 8
                for one in _ERROR_TYPES[6]:
                    blocked[one >> 5] &= ~(1 << (one & 31)) & 0xFFFFFFFF
                sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *blocked))
            sock.settimeout(0.2)
            self._sockets.append((family, sock))
        self._open = True
        self._threads = [threading.Thread(target=self._listen, args=pair, daemon=True) for pair in self._sockets]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._open = False
        for thread in self._threads:
            thread.join(2.0)
        for _family, sock in self._sockets:
            sock.close()

    def _listen(self, family: int, sock: socket.socket) -> None:
        while self._open:
            try:
                data, address = sock.recvfrom(2048)
            except (TimeoutError, socket.timeout):
                continue
            except OSError:
                return
            error = parse4(data) if family == 4 else parse6(data, str(address[0]).partition("%")[0])
            if error is not None and len(self._heard) < 65536:
                self._heard.append(error)
                self._news.set()

    def find(self, protocol: int, destination: str, sport: int | None, dport: int | None, wait: float = 0.0) -> Error | None:
        """The newest error about a packet of this protocol to this address and port; sport None: from any port.

        wait: seconds to wait for it, for an event that a socket reported before its message was read here.
        """
        deadline = time.monotonic() + wait
        while True:
            for error in reversed(self._heard):
                ours = (error.protocol, error.destination, error.dport) == (protocol, destination, dport)
                if ours and sport in (None, error.sport):
                    return error
            if time.monotonic() >= deadline or not self._sockets:
                return None
            self._news.clear()
            self._news.wait(0.02)
