# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The way to an address, hop by hop: UDP, TCP or ICMP with growing hop limits, many at the same time.

Sources: ip(7) IP_TTL and IP_RECVERR, Documentation/networking/ip-sysctl.rst (icmp_ratelimit: behind a burst of six, a router
that runs Linux answers a host about once a second, so silence of one hop alone means nothing).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import (
    MAX_PORT,
    Failed,
    left,
    port_of,
    resolve,
    source_of,
)
from ansible_collections.netops.fleet.plugins.module_utils._kernel import icmp, ping

WAYS = ("udp", "tcp", "icmp")
#: First port of UDP probes, as traceroute uses it; nothing listens there.
UDP_PORT = 33434
#: Probes on their way at the same time, and silent hops after which the rest is not asked.
WINDOW, SILENT_HOPS = 24, 8
_UNICAST_HOPS = 16


@dataclass
class _Sent:
    """One probe on its way."""

    sock: socket.socket
    ttl: int
    at: float
    sport: int
    raw: bool
    token: bytes


@dataclass
class Answer:
    """One probe's fate. sender: None without an answer. reached: it came from the target itself. said: the ICMP error's name."""

    ttl: int
    sender: str | None = None
    rtt_ms: float | None = None
    reached: bool = False
    said: str = ""


def path(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """way (udp), port, first_hop (1), max_hops (30), queries (3), wait (seconds for each answer, 1), jump_ms (10).

    Adds ``hops: [{hop, addresses, sent, received, loss_percent, rtt_ms, said}]``, ``reached``, ``jump`` (the hop from which on
    the way takes jump_ms longer), ``lossy_from`` (the hop from which on packets are lost up to the target), ``loop`` (addresses
    that come again and again).
    """
    way = str(probe.get("way") or "udp")
    if way not in WAYS:
        raise Failed("error", f"way {way[:20]!r} is none of {', '.join(WAYS)}")
    port = port_of(probe, 443 if way == "tcp" else UDP_PORT)
    first, last = int(probe.get("first_hop") or 1), int(probe.get("max_hops") or 30)
    queries = int(probe.get("queries") or 3)
    if not (1 <= first <= last <= 64 and 1 <= queries <= 10):
        raise Failed("error", "allowed are 1 <= first_hop <= max_hops <= 64 and 1 to 10 queries")
    source = source_of(probe)
    family, where = resolve(str(probe["target"]), port, socket.SOCK_STREAM if way == "tcp" else socket.SOCK_DGRAM, source)[0]
    result["address"] = str(where[0])
    with icmp.Watch() as watch:
        if way == "tcp" and watch.why:
            result["gaps"] = [watch.why]
        trace = _Trace(family, where, way, source, watch)
        answers = trace.run(range(first, last + 1), queries, float(probe.get("wait") or 1.0), deadline)
    result["from"] = trace.source
    result.update(judge(answers, float(probe.get("jump_ms") or 10.0)))
    if result["status"] != "ok":
        raise Failed(result["status"], result["detail"])


class _Trace:
    def __init__(self, family: int, where: tuple[Any, ...], way: str, source: str | None, watch: icmp.Watch) -> None:
        self.family, self.where, self.way, self.bind, self.watch = family, where, way, source, watch
        self.source: str | None = None
        self._target = str(where[0]).partition("%")[0]
        self._udp_port = int(where[1])
        self._answers: list[Answer] = []
        self._waiting: dict[int, _Sent] = {}

    def run(self, hops: range, queries: int, wait: float, deadline: float) -> list[Answer]:
        """Ask all hops; stops early behind the target, or behind a stretch of silence."""
        due = [hop for hop in hops for _query in range(queries)]
        try:
            while due or self._waiting:
                while due and len(self._waiting) < WINDOW and not self._enough(due[0], queries):
                    self._send(due.pop(0))
                if due and self._enough(due[0], queries):
                    due.clear()
                left(deadline)
                self._collect(wait, deadline)
        except Failed:
            if not self._answers:
                raise
        finally:
            for one in self._waiting.values():
                one.sock.close()
        return self._answers

    def _enough(self, ttl: int, queries: int) -> bool:
        if any(one.ttl < ttl and (one.reached or (one.said and one.said not in icmp.TTL_EXCEEDED)) for one in self._answers):
            return True
        recent = [one for one in self._answers if one.ttl >= ttl - SILENT_HOPS]
        return len(recent) >= SILENT_HOPS * queries and not any(one.sender for one in recent)

    def _send(self, ttl: int) -> None:
        sock, raw = self._socket()
        token = os.urandom(8)
        where = self.where
        level, option = (
            (socket.IPPROTO_IP, socket.IP_TTL) if self.family == socket.AF_INET else (socket.IPPROTO_IPV6, _UNICAST_HOPS)
        )
        try:
            sock.setsockopt(level, option, ttl)
            if self.bind:
                sock.bind((self.bind, 0))
            sock.setblocking(False)
            if self.way == "udp":
                where = (where[0], min(MAX_PORT, self._udp_port), *where[2:])
                self._udp_port += 1
            failed = sock.connect_ex(where)
            if failed not in (0, errno.EINPROGRESS):
                raise OSError(failed, os.strerror(failed))
            name = sock.getsockname()
            self.source = str(name[0])
            number = int.from_bytes(os.urandom(2), "big") if raw else int(name[1])
            sent = _Sent(sock, ttl, time.monotonic(), number, raw, token)
            if self.way == "udp":
                sock.send(bytes(32))
            elif self.way == "icmp":
                sock.send(ping.request(self.family, number, ttl, token, 32))
        except OSError:
            sock.close()
            raise
        self._waiting[sock.fileno()] = sent

    def _socket(self) -> tuple[socket.socket, bool]:
        if self.way == "icmp":
            sock, raw = ping.open_socket(self.family)
        else:
            kind = socket.SOCK_STREAM if self.way == "tcp" else socket.SOCK_DGRAM
            sock, raw = socket.socket(self.family, kind | socket.SOCK_CLOEXEC), False
        if self.way != "tcp" and not raw:
            icmp.ask_for_errors(sock, self.family)
        return sock, raw

    def _collect(self, wait: float, deadline: float) -> None:
        """Wait for the next events, and take them; probes that waited long enough are lost."""
        poller = select.poll()
        for number in self._waiting:
            poller.register(number, select.POLLIN | select.POLLERR | (select.POLLOUT if self.way == "tcp" else 0))
        oldest = min((one.at for one in self._waiting.values()), default=time.monotonic())
        until = min(oldest + wait, deadline) - time.monotonic()
        raw = any(one.raw for one in self._waiting.values())
        if raw:
            until = min(until, 0.005)  # errors come by the watch, which wakes nobody here
        for number, _events in poller.poll(max(0.0, until) * 1000 + 1):
            sent = self._waiting[number]
            answer = self._heard(sent)
            if answer is not None:
                self._done(number, answer)
        if raw:
            self._heard_raw()
        now = time.monotonic()
        for number in [number for number, one in self._waiting.items() if now - one.at >= wait or now >= deadline]:
            sent = self._waiting[number]
            # A socket that was busy when the message came keeps it to itself.
            error = (
                self.watch.find(socket.IPPROTO_TCP, self._target, sent.sport, int(self.where[1])) if self.way == "tcp" else None
            )
            self._done(number, Answer(sent.ttl) if error is None else self._told(sent, error, None))

    def _done(self, number: int, answer: Answer) -> None:
        self._waiting.pop(number).sock.close()
        self._answers.append(answer)

    def _heard(self, sent: _Sent) -> Answer | None:
        """What an event says; None when it says nothing of this probe."""
        target = self._target
        took = round((time.monotonic() - sent.at) * 1000, 3)
        if self.way == "tcp":
            failed = sent.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed in (0, errno.ECONNREFUSED):
                return Answer(sent.ttl, target, took, True)
            error = self.watch.find(socket.IPPROTO_TCP, target, sent.sport, int(self.where[1]), 0.3)
            if error is not None:
                return self._told(sent, error, took)
            # Without root nobody tells who it was; with root it was this host itself.
            return Answer(sent.ttl, "", took) if self.watch.why else Answer(sent.ttl, said=os.strerror(failed).lower())
        for error, _number, _data in icmp.queued(sent.sock):
            if error is not None:
                return self._told(sent, error, took)
        try:
            data = sent.sock.recv(2048)
        except OSError:
            return None  # an event that was taken already
        if self.way == "icmp":
            number = sent.sport if sent.raw else None
            if ping.match(data, sent.raw and self.family == socket.AF_INET, self.family, number, sent.token) is None:
                return None
        return Answer(sent.ttl, target, took, True)

    def _heard_raw(self) -> None:
        """Raw ICMP sockets share one queue of errors: what the watch heard is matched by identifier and hop instead."""
        protocol = socket.IPPROTO_ICMP if self.family == socket.AF_INET else socket.IPPROTO_ICMPV6
        for number, sent in [(number, one) for number, one in self._waiting.items() if one.raw]:
            error = self.watch.find(protocol, self._target, sent.sport, sent.ttl)
            if error is not None:
                self._done(number, self._told(sent, error, round((time.monotonic() - sent.at) * 1000, 3)))

    def _told(self, sent: _Sent, error: icmp.Error, took: float | None) -> Answer:
        reached = error.name in icmp.PORT_UNREACHABLE and error.sender == self._target
        return Answer(sent.ttl, error.sender, took, reached, "" if reached else error.name)


def judge(answers: list[Answer], jump_ms: float) -> dict[str, Any]:
    """What the answers say. status: ok, lossy, unreachable (a router says so), timeout (silence)."""
    end = min((one.ttl for one in answers if one.reached), default=None)
    hops: list[dict[str, Any]] = []
    for ttl in sorted({one.ttl for one in answers if end is None or one.ttl <= end}):
        here = [one for one in answers if one.ttl == ttl]
        heard = [one for one in here if one.sender is not None]
        times = [one.rtt_ms for one in heard if one.rtt_ms is not None]
        hops.append(
            {
                "hop": ttl,
                "addresses": sorted({one.sender for one in here if one.sender}),
                "sent": len(here),
                "received": len(heard),
                "loss_percent": round(100 * (len(here) - len(heard)) / len(here), 1),
                "rtt_ms": {"min": min(times), "avg": round(sum(times) / len(times), 3), "max": max(times)} if times else None,
                "said": sorted({one.said for one in here if one.said and one.said not in icmp.TTL_EXCEEDED}),
            }
        )
    while end is None and len(hops) > 1 and not hops[-1]["received"] and not hops[-2]["received"]:
        hops.pop()  # a tail of silence is one line
    found: dict[str, Any] = {
        "hops": hops,
        "reached": end is not None,
        "jump": _jump(hops, jump_ms),
        "lossy_from": _lossy_from(hops) if end is not None else None,
        "loop": _loop(hops),
        "status": "ok",
        "detail": f"{len(hops)} hops" if len(hops) != 1 else "1 hop",
    }
    refusing = next((hop for hop in hops if hop["said"]), None)
    if end is not None:
        found["ms"] = hops[-1]["rtt_ms"]["avg"] if hops[-1]["rtt_ms"] else None
        if hops[-1]["loss_percent"]:
            found.update(
                status="lossy", detail=f"{hops[-1]['loss_percent']:g} % lost at the target, from hop {found['lossy_from']} on"
            )
    elif refusing is not None:
        found.update(
            status="unreachable", detail=f"hop {refusing['hop']} ({_names(refusing)}) says {' and '.join(refusing['said'])}"
        )
    elif found["loop"]:
        found.update(status="unreachable", detail=f"the way runs in a circle: {', '.join(found['loop'])}")
    else:
        answering = [hop for hop in hops if hop["received"]]
        behind = f"behind hop {answering[-1]['hop']} ({_names(answering[-1])})" if answering else "from the first hop on"
        found.update(status="timeout", detail=f"silence {behind}")
    return found


def _names(hop: dict[str, Any]) -> str:
    return ", ".join(hop["addresses"]) or "sender not told"


def _jump(hops: list[dict[str, Any]], least: float) -> dict[str, Any] | None:
    """The largest step of round-trip time that every hop behind it keeps: a router that is merely slow to answer is none."""
    timed = [hop for hop in hops if hop["rtt_ms"]]
    best: dict[str, Any] | None = None
    before = 0.0
    for number, hop in enumerate(timed):
        kept = min(one["rtt_ms"]["min"] for one in timed[number:])
        if kept - before >= least and (best is None or kept - before > best["by_ms"]):
            best = {"hop": hop["hop"], "addresses": hop["addresses"], "by_ms": round(kept - before, 3)}
        before = max(before, kept)
    return best


def _lossy_from(hops: list[dict[str, Any]]) -> int | None:
    """The first hop of the unbroken stretch of loss that ends at the target."""
    first = None
    for hop in reversed(hops):
        if not hop["loss_percent"]:
            break
        first = hop["hop"]
    return first


def _loop(hops: list[dict[str, Any]]) -> list[str]:
    seen: dict[str, int] = {}
    for hop in hops:
        for address in hop["addresses"]:
            seen[address] = seen.get(address, 0) + 1
    return sorted(address for address, times in seen.items() if times >= 3)
