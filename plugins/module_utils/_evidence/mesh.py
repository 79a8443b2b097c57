# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One host's row of the mesh: small and full-size echo requests to many peers at once, and what time their clocks show.

All peers share a socket for each family and take turns, so that a row of 64 peers takes as long as one of four.
Sources: icmp(7), RFC 792 (timestamp), ip(7) IP_MTU_DISCOVER
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import probes, routes
from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import said, status_of
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import icmp, ping

MAX_PEERS = 64
#: Echo requests for each peer, seconds between two of them, and in which of those rounds a large one goes along.
COUNT, INTERVAL, LARGE_ROUNDS = 10, 0.1, (3, 6, 9)
#: Seconds between two packets: a row of 64 peers is no burst.
_PACE = 0.0005
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE, _IPV6_DONTFRAG = 10, 23, 3, 62
_HEADERS = {4: 28, 6: 48}  # IP and ICMP
_TIMESTAMP, _TIMESTAMP_REPLY, _DAY_MS = 13, 14, 86_400_000


@dataclass
class _Peer:
    name: str
    address: str
    family: int
    size: int | None = None
    sent: int = 0
    rtt: list[float] = field(default_factory=list)
    large: list[int] = field(default_factory=lambda: [0, 0])
    told: str = ""
    error: OSError | None = None
    offsets: list[tuple[float, float]] = field(default_factory=list)  # (width, offset): the narrowest counts


def read(peers: list[dict[str, str]], timeout: float = 2.0, ports: tuple[int, ...] = (22,)) -> Section:
    """``{seconds, packets, bytes, cells}``; cells: one for each peer, in the order given, at most 64.

    A cell: ``{peer, address, status, sent, received, rtt_ms: [min, median, max] | null, large: {bytes, sent, received, told},
    clock: {offset_s, error_s} | null, detail}``. status: ok, lossy, silent, icmp_blocked (no echo, but one of the TCP ``ports``
    answers), prohibited, error. large: full-size packets that nobody may cut; told: who said that they are too big.
    clock: the peer's minus this host's, within a day. bytes: of IP packets sent.
    """
    section = Section({"seconds": 0.0, "packets": 0, "bytes": 0, "cells": []})
    asked: list[_Peer] = []
    for one in peers[:MAX_PEERS]:
        try:
            asked.append(_Peer(one["host"], one["address"], ipaddress.ip_address(one["address"].partition("%")[0]).version))
        except ValueError:
            section.gap(f"mesh.{one['host'][:100]}", f"{one['address'][:60]} is no IP address")
    begun = time.monotonic()
    for family in (4, 6):
        some = [one for one in asked if one.family == family]
        if some:
            _Row(family, some, section).run(timeout)
    cells = [_cell(one) for one in asked]
    _ask_by_tcp([cell for cell in cells if cell["status"] == "silent"], ports, timeout)
    section.data.update(seconds=round(time.monotonic() - begun, 3), cells=cells)
    return section


class _Row:
    """The peers of one family. A sequence number stands for one packet."""

    def __init__(self, family: int, peers: list[_Peer], section: Section) -> None:
        self.family, self.peers, self.section = family, peers, section
        self.inet = socket.AF_INET if family == 4 else socket.AF_INET6
        self.number = int.from_bytes(os.urandom(2), "big")
        self.token = os.urandom(8)
        self.waiting: dict[int, tuple[_Peer, float, bool]] = {}
        self.stamped: dict[int, tuple[_Peer, float, int]] = {}
        self.sequence = 0

    def run(self, timeout: float) -> None:
        try:
            self.echo, self.raw = ping.open_socket(self.inet)
        except OSError as error:
            for peer in self.peers:
                peer.error = error
            self.section.gap(f"mesh.ipv{self.family}", f"no echo requests without privilege: {said(error)}")
            return
        with self.echo:
            icmp.ask_for_errors(self.echo, self.inet)
            if self.family == 4:
                self.echo.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
            else:
                self.echo.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
                self.echo.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            self.clock = self._clock_socket()
            try:
                self._rounds(timeout)
            finally:
                if self.clock is not None:
                    self.clock.close()

    def _clock_socket(self) -> socket.socket | None:
        if self.family == 6:
            self.section.gap("mesh.clock", "ICMPv6 has no timestamps: clocks of peers with IPv6 only are not compared")
            return None
        try:
            return socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMP)
        except OSError as error:
            self.section.gap("mesh.clock", f"no ICMP timestamps without privilege: {said(error)}")
            return None

    def _rounds(self, timeout: float) -> None:
        for peer in self.peers:
            # None: the way there cannot be told, so what is "full size" cannot either.
            peer.size = routes.lookup(peer.address.partition("%")[0]).get("link_mtu")
        started = time.monotonic()
        for turn in range(COUNT):
            for peer in self.peers:
                self._send(peer, 56, large=False)
                if turn in LARGE_ROUNDS and peer.size is not None and peer.rtt:
                    self._send(peer, min(peer.size, 65535) - _HEADERS[self.family], large=True)
                if turn in (1, 4, 7):
                    self._stamp(peer)
                self._receive(_PACE)
            self._receive(started + (turn + 1) * INTERVAL - time.monotonic())
        # Late is not lost: waited for are two seconds, unless everything has come.
        until = time.monotonic() + timeout
        while self.waiting and time.monotonic() < until:
            self._receive(min(0.1, until - time.monotonic()))

    def _send(self, peer: _Peer, size: int, large: bool) -> None:
        self.sequence += 1
        packet = ping.request(self.inet, self.number, self.sequence, self.token, size)
        if large:
            peer.large[0] += 1
        else:
            peer.sent += 1
        self.waiting[self.sequence] = (peer, time.monotonic(), large)
        for _again in (1, 2):
            try:
                self.echo.sendto(packet, (peer.address, 0))
                self.section.data["packets"] += 1
                self.section.data["bytes"] += size + _HEADERS[self.family]
                return
            except OSError as error:
                # The first error may be the news of an earlier packet, kept on the socket: that one is told by its queue.
                failure = error
                self._errors()
        self._failed(self.sequence, failure)

    def _failed(self, sequence: int, error: OSError) -> None:
        found = self.waiting.pop(sequence, None)
        if found is None:
            return
        peer, _when, large = found
        if large and error.errno == errno.EMSGSIZE:
            peer.told = peer.told or "this host"
        elif not large:
            peer.error = error

    def _stamp(self, peer: _Peer) -> None:
        if self.clock is None:
            return
        self.sequence += 1
        now = time.time()
        ours = int(now * 1000) % _DAY_MS
        head = struct.pack("!BBHHHIII", _TIMESTAMP, 0, 0, self.number, self.sequence, ours, 0, 0)
        packet = head[:2] + struct.pack("!H", ping.checksum(head)) + head[4:]
        try:
            self.clock.sendto(packet, (peer.address, 0))
        except OSError:
            return  # the echo requests say what is wrong
        self.stamped[self.sequence] = (peer, now, ours)
        self.section.data["packets"] += 1
        self.section.data["bytes"] += len(packet) + 20

    def _receive(self, seconds: float) -> None:
        """Take what comes within this time."""
        until = time.monotonic() + max(0.0, seconds)
        sockets = [self.echo] + ([self.clock] if self.clock is not None else [])
        while True:
            ready = select.select(sockets, [], [], max(0.0, until - time.monotonic()))[0]
            if not ready:
                return
            if self.echo in ready:
                self._replies()
            if self.clock is not None and self.clock in ready:
                self._stamps(self.clock)

    def _replies(self) -> None:
        try:
            data = self.echo.recv(65535, socket.MSG_DONTWAIT)
        except OSError:
            self._errors()
            return
        now = time.monotonic()
        number = self.number if self.raw else None
        sequence = ping.match(data, self.raw and self.family == 4, self.inet, number, self.token)
        if sequence not in self.waiting:
            return
        peer, when, large = self.waiting.pop(sequence)
        if large:
            peer.large[1] += 1
        else:
            peer.rtt.append(now - when)

    def _errors(self) -> None:
        for error, number, data in icmp.queued(self.echo):
            if len(data) < 8:
                continue
            sequence = struct.unpack_from("!H", data, 6)[0]
            if error is not None and error.name in icmp.TOO_BIG:
                found = self.waiting.pop(sequence, None)
                if found is not None and found[2]:
                    found[0].told = found[0].told or str(error.sender)
            else:
                self._failed(sequence, OSError(number, f"{error.name}, says {error.sender}" if error else os.strerror(number)))

    def _stamps(self, clock: socket.socket) -> None:
        try:
            data = clock.recv(4096, socket.MSG_DONTWAIT)
        except OSError:
            return
        now = time.time()
        data = data[(data[0] & 0xF) * 4 :] if len(data) >= 40 else b""
        if len(data) < 20 or data[0] != _TIMESTAMP_REPLY:
            return
        number, sequence, ours, arrived, left = struct.unpack_from("!HHIII", data, 4)
        found = self.stamped.pop(sequence, None) if number == self.number else None
        if found is None:
            return
        peer, sent, mine = found
        # The highest bit: the peer counts from another hour than midnight.
        if ours != mine or arrived >= _DAY_MS or left >= _DAY_MS:
            return
        peer.offsets.append((now - sent, _offset(sent, arrived, left, now)))


def _offset(sent: float, arrived: int, left: int, now: float) -> float:
    """Seconds by which the other clock is ahead, from times in milliseconds since midnight; within half a day either way."""
    ahead = (arrived - sent * 1000) % _DAY_MS, (left - now * 1000) % _DAY_MS
    return sum(one - _DAY_MS if one > _DAY_MS / 2 else one for one in ahead) / 2000


def _cell(peer: _Peer) -> dict[str, Any]:
    received = len(peer.rtt)
    status, detail = "ok", ""
    if received < peer.sent or not peer.sent:
        status = "lossy" if received else "silent"
        detail = f"{peer.sent - received} of {peer.sent} echo requests without reply" if received else "no echo reply"
        if not received and peer.error is not None:
            detail = peer.error.strerror or str(peer.error)
            status = "prohibited" if status_of(peer.error) == "prohibited" else status
            if not peer.sent:
                status = "error"
    times = sorted(peer.rtt)
    clock = None
    if peer.offsets:
        width, offset = min(peer.offsets)
        # A timestamp is in whole milliseconds.
        clock = {"offset_s": round(offset, 4), "error_s": round(width / 2 + 0.001, 4)}
    return {
        "peer": peer.name,
        "address": peer.address,
        "status": status,
        "sent": peer.sent,
        "received": received,
        "rtt_ms": [round(1000 * one, 3) for one in (times[0], times[received // 2], times[-1])] if times else None,
        "large": {"bytes": peer.size, "sent": peer.large[0], "received": peer.large[1], "told": peer.told},
        "clock": clock,
        "detail": detail[:200],
    }


def _ask_by_tcp(cells: list[dict[str, Any]], ports: tuple[int, ...], timeout: float) -> None:
    """Whether a peer without echo replies is there all the same; else why not, as far as the network says."""
    if not cells:
        return
    asked = [(cell, port) for cell in cells for port in ports]
    wanted = [{"kind": "tcp", "target": cell["address"], "port": port, "timeout": timeout} for cell, port in asked]
    for (cell, port), result in zip(asked, probes.run(wanted, 4 * timeout, explain=True).data):
        if cell["status"] == "icmp_blocked":
            continue
        if result["status"] in ("ok", "refused", "reset"):
            cell["status"] = "icmp_blocked"
            cell["detail"] = f"{cell['detail']}, but TCP port {port} answers ({result['status']}): ICMP may be blocked"
        elif result.get("detail"):
            cell["detail"] = f"{cell['detail']}; TCP port {port}: {result['status']}, {result['detail']}"[:300]
