# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The largest packet that reaches an address whole, found by halving, and who or what stops larger ones.

The kernel's own cache of path MTUs is not consulted; what routers say in answer enters it, as with any other traffic.
Sources: ip(7) IP_MTU_DISCOVER (IP_PMTUDISC_PROBE), RFC 1191, RFC 8201, RFC 4821 (why silence must be searched)
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import routes
from ansible_collections.netops.fleet.plugins.module_utils._evidence.probing import Failed, left, resolve, said, source_of
from ansible_collections.netops.fleet.plugins.module_utils._kernel import icmp, ping

#: Every IPv6 link takes 1280 bytes (RFC 8200); every IPv4 host takes 576 (RFC 791).
LEAST = {socket.AF_INET: 576, socket.AF_INET6: 1280}
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PROBE, _IPV6_DONTFRAG = 10, 23, 3, 62
_UDP_PORT = 33434
#: Small and large packets in turn, before silence about the large ones is believed to be about their size.
_TURNS = 4
_HEADERS = {socket.AF_INET: 20 + 8, socket.AF_INET6: 40 + 8}  # IP, and UDP or ICMP


@dataclass
class _Search:
    """How far it got, in bytes of whole IP packets. best: arrived; worst: did not."""

    best: int = 0
    worst: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)
    exact: bool = True


def mtu(probe: dict[str, Any], result: dict[str, Any], deadline: float) -> None:
    """way (echo, else udp to a closed port), min_mtu (least bytes wanted), tries (2) for a size that gets no answer.

    Adds ``mtu: {path, link, exact, black_hole, told: [{sender, mtu, name}]}``: path is the largest IP packet in bytes that
    arrived whole (exact false: at least), link the MTU of the way out, black_hole true when larger ones vanish without a word.
    """
    source = source_of(probe)
    family, where = resolve(str(probe["target"]), _UDP_PORT, socket.SOCK_DGRAM, source)[0]
    result["address"] = str(where[0])
    route = routes.lookup(str(where[0]).partition("%")[0], source)
    link = int(route.get("link_mtu") or 1500)
    link = min(link, 65535)
    tries = max(1, min(5, int(probe.get("tries") or 2)))
    least = min(LEAST[socket.AF_INET6 if family == socket.AF_INET6 else socket.AF_INET], link)
    asked = str(probe.get("way") or "")
    if asked not in ("", "echo", "udp"):
        raise Failed("error", f"way {asked[:20]!r} is none of echo, udp")
    first: Failed | None = None
    for way in [asked] if asked else ["echo", "udp"]:
        sender = _Sender(family, where, way, source, link)
        try:
            with sender:
                found = _search(sender, least, link, tries, deadline)
                if _is_hole(found):
                    _confirm(sender, found, deadline)
        except Failed as failure:
            if failure.status == "lossy":
                result["from"], result["way"] = sender.source, way
                raise
            first = first or failure
            continue
        result["from"], result["way"] = sender.source, way
        return _tell(probe, result, found, link)
    raise first or Failed("timeout", "no answer in time")


def _tell(probe: dict[str, Any], result: dict[str, Any], found: _Search, link: int) -> None:
    hole = _is_hole(found)
    result["mtu"] = {"path": found.best, "link": link, "exact": found.exact, "black_hole": hole, "told": found.told}
    wanted = int(probe.get("min_mtu") or 0)
    if hole:
        raise Failed(
            "black_hole", f"packets above {found.best} bytes vanish without a word; the link takes {link}: a path MTU black hole"
        )
    if wanted and found.best < wanted:
        who = f", says {found.told[-1]['sender']}" if found.told else ""
        raise Failed("too_small", f"the path takes {found.best} bytes{who}; wanted are {wanted}")
    result["detail"] = f"{found.best} bytes" + (
        f", limited by {found.told[-1]['sender']}" if found.told and found.best < link else ""
    )


def _is_hole(found: _Search) -> bool:
    return bool(found.silent) and not any(one["mtu"] == found.best for one in found.told)


def _confirm(sender: _Sender, found: _Search, deadline: float) -> None:
    """Plain loss takes packets of every size: raises Failed unless large ones go on to vanish and small ones to arrive."""
    large, small = min(found.silent), 0
    for _turn in range(_TURNS):
        small += sender.arrives(found.best, _Search(), 1, deadline) is True
        if sender.arrives(large, _Search(), 1, deadline) is not None:
            raise Failed(
                "lossy", f"a packet of {large} bytes was lost, and another one was not: packets are lost, whatever their size"
            )
    if small < _TURNS - 1:
        raise Failed("lossy", f"packets of {found.best} bytes are lost too: what becomes of larger ones cannot be told")


def _search(sender: _Sender, least: int, link: int, tries: int, deadline: float) -> _Search:
    search = _Search(worst=link + 1)
    # A small packet first: silence about a large one means something only then.
    if sender.arrives(least, search, tries, deadline) is None:
        raise Failed(sender.status, sender.why or "no answer even to a small packet: could not tell")
    search.best = least
    size = link
    while search.best + 1 < search.worst:
        if search.silent and deadline - time.monotonic() < sender.patience(tries) + _TURNS * sender.patience(1):
            search.exact = False  # a black hole is one, also where its edge is not known to the byte
            break
        answer = sender.arrives(size, search, tries, deadline)
        if answer:
            search.best = size
            size = (search.best + search.worst) // 2
            continue
        search.worst = min(search.worst, size)
        hint = search.told[-1]["mtu"] if answer is False and search.told else None
        size = hint if hint and search.best < hint < search.worst else (search.best + search.worst) // 2
        if size <= search.best:
            break
    return search


class _Sender:
    """Sends packets of a size that no router may cut, and hears what becomes of them."""

    def __init__(self, family: int, where: tuple[Any, ...], way: str, source: str | None, link: int) -> None:
        self.family, self.where, self.way, self.bind, self.link = family, where, way, source, link
        self.source: str | None = None
        self.status, self.why = "timeout", ""
        self._number = int.from_bytes(os.urandom(2), "big")
        self._sequence = 0
        self._wait = 1.0

    def __enter__(self) -> _Sender:
        if self.way == "echo":
            self._socket, self._raw = ping.open_socket(self.family)
        else:
            self._socket, self._raw = socket.socket(self.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC), False
        try:
            icmp.ask_for_errors(self._socket, self.family)
            if self.family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
            else:
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            if self.bind:
                self._socket.bind((self.bind, 0))
            self._socket.connect(self.where)
        except OSError:
            self._socket.close()
            raise
        self.source = str(self._socket.getsockname()[0])
        return self

    def __exit__(self, *_unused: object) -> None:
        self._socket.close()

    def patience(self, tries: int) -> float:
        """Seconds after which a size counts as silent."""
        return sum(self._wait * number for number in range(1, tries + 1))

    def arrives(self, size: int, search: _Search, tries: int, deadline: float) -> bool | None:
        """True: it arrived. False: somebody said it is too big. None: silence."""
        for number in range(1, tries + 1):
            answer = self._once(size, search, deadline, self._wait * number)
            if answer is not None:
                return answer
        search.silent.append(size)
        return None

    def _once(self, size: int, search: _Search, deadline: float, wait: float) -> bool | None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        token = os.urandom(8)
        content = size - _HEADERS[socket.AF_INET if self.family == socket.AF_INET else socket.AF_INET6]
        started = time.monotonic()
        if self.way == "echo":
            packet = ping.request(self.family, self._number, self._sequence, token, content)
        else:
            packet = token + bytes(content - len(token))
        # What an earlier packet met is waiting on the socket, and would be taken for this one's fate.
        icmp.queued(self._socket)
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            self._socket.send(packet)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                self.why = said(error)
            answer = self._errors(search, size)
            return False if answer is None and error.errno == errno.EMSGSIZE and size > self.link else answer
        while True:
            pause = min(left(deadline), started + wait - time.monotonic())
            if pause <= 0 or not select.select([self._socket], [], [], pause)[0]:
                return None
            answer = self._errors(search, size)
            if answer is None:
                answer = self._reply(token)
            if answer is not None:
                if answer:  # silence is judged by what this path takes to answer
                    self._wait = max(0.4, min(self._wait, 8 * (time.monotonic() - started)))
                return answer

    def _reply(self, token: bytes) -> bool | None:
        try:
            data = self._socket.recv(65535)
        except OSError:
            return None
        if self.way == "udp":
            return True
        number = self._number if self._raw else None
        found = ping.match(data, self._raw and self.family == socket.AF_INET, self.family, number, token)
        return True if found is not None else None

    def _errors(self, search: _Search, size: int) -> bool | None:
        target = str(self.where[0]).partition("%")[0]
        answer: bool | None = None
        for error, number, _data in icmp.queued(self._socket):
            if error is not None and error.mtu is not None and error.mtu >= size:
                continue  # late news about a larger packet
            if error is not None and error.name in icmp.TOO_BIG:
                told = {"sender": error.sender, "mtu": error.mtu, "name": error.name}
                if told not in search.told:
                    search.told.append(told)
                answer = False
            elif error is not None and self.way == "udp" and error.name in icmp.PORT_UNREACHABLE and error.sender == target:
                answer = True
            elif error is None and number == errno.EMSGSIZE:
                answer = False
            elif error is not None:
                self.status, self.why = "unreachable", f"{error.name}, says {error.sender}"
        return answer
