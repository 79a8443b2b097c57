# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""ICMP echo without the ping program: by a ping socket where the host allows it, else by a raw one.

Sources: icmp(7), raw(7), RFC 792, RFC 4443
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field

_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_IP_TTL, _IP_RECVTTL, _IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 2, 12, 51, 52


@dataclass
class Echoes:
    """sent, received: requests and their replies. rtt: seconds of each reply. error: what the network said, if anything.

    ttl: time to live (hop limit) that replies came with, each number once."""

    sent: int = 0
    rtt: list[float] = field(default_factory=list)
    error: OSError | None = None
    source: str | None = None
    ttl: list[int] = field(default_factory=list)

    @property
    def received(self) -> int:
        return len(self.rtt)


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def open_socket(family: int) -> tuple[socket.socket, bool]:
    """(socket, is it raw). Raises PermissionError when neither kind is allowed."""
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    try:
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, protocol), False
    except OSError:
        return socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol), True


def echo(
    family: int, where: tuple[object, ...], count: int, interval: float, timeout: float, source: str | None = None, size: int = 56
) -> Echoes:
    """Send ``count`` requests ``interval`` seconds apart; wait ``timeout`` seconds for the last reply. size: bytes of data.

    Raises OSError when no request could be sent at all.
    """
    result = Echoes()
    token = os.urandom(8)
    number = int.from_bytes(os.urandom(2), "big")
    sock, raw = open_socket(family)
    with sock:
        level, option = (socket.IPPROTO_IP, _IP_RECVERR) if family == socket.AF_INET else (socket.IPPROTO_IPV6, _IPV6_RECVERR)
        sock.setsockopt(level, option, 1)
        sock.setsockopt(level, _IP_RECVTTL if family == socket.AF_INET else _IPV6_RECVHOPLIMIT, 1)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(where)
        result.source = str(sock.getsockname()[0])
        sent: dict[int, float] = {}
        started = time.monotonic()
        for sequence in range(1, count + 1):
            sent[sequence] = time.monotonic()
            result.sent += 1
            try:
                sock.send(request(family, number, sequence, token, size))
            except OSError as error:
                # Also what an earlier request met; it is lost either way.
                result.error = error
            until = started + sequence * interval if sequence < count else time.monotonic() + timeout
            _replies(sock, raw, family, number, token, sent, until, sequence == count, result)
    return result


def request(family: int, number: int, sequence: int, token: bytes, size: int) -> bytes:
    kind = _ECHO[socket.AF_INET if family == socket.AF_INET else socket.AF_INET6][0]
    data = (token + bytes(max(0, size - len(token))))[: max(8, size)]
    if family != socket.AF_INET:
        return struct.pack("!BBHHH", kind, 0, 0, number, sequence) + data  # the kernel fills the checksum in
    head = struct.pack("!BBHHH", kind, 0, 0, number, sequence)
    return struct.pack("!BBHHH", kind, 0, checksum(head + data), number, sequence) + data


def _replies(
    sock: socket.socket,
    raw: bool,
    family: int,
    number: int,
    token: bytes,
    sent: dict[int, float],
    until: float,
    last: bool,
    result: Echoes,
) -> None:
    """Take replies until the time is over; after the last request, until every request is answered."""
    while not (last and not sent):
        left = until - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            return
        try:
            data, ancillary, _flags, _sender = sock.recvmsg(65535, 512)
        except OSError as error:
            result.error = error
            _drain_errors(sock)
            continue
        sequence = match(data, raw and family == socket.AF_INET, family, number if raw else None, token)
        if sequence in sent:
            result.rtt.append(time.monotonic() - sent.pop(sequence))
            result.ttl = sorted({*result.ttl, *_hops(ancillary)})


def _hops(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The time to live, or hop limit, a packet came with."""
    known = ((socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT))
    return [struct.unpack_from("=i", data)[0] for level, kind, data in ancillary if (level, kind) in known and len(data) >= 4]


def _drain_errors(sock: socket.socket) -> None:
    """The queue of errors makes the socket readable for ever unless it is emptied."""
    try:
        while True:
            sock.recvmsg(512, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return


def match(data: bytes, with_ip: bool, family: int, number: int | None, token: bytes) -> int | None:
    """The sequence number of a reply to our request; None for anything else. number: None when the kernel sorts by it."""
    if with_ip:
        if len(data) < 20:
            return None
        data = data[(data[0] & 0xF) * 4 :]
    if len(data) < 16:
        return None
    kind, _code, _sum, got, sequence = struct.unpack_from("!BBHHH", data)
    reply = _ECHO[socket.AF_INET if family == socket.AF_INET else socket.AF_INET6][1]
    if kind != reply or data[8:16] != token or (number is not None and got != number):
        return None
    return int(sequence)
