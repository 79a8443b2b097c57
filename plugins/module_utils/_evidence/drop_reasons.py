# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which packets the kernel freed as dropped during a window: its reason, the function, the protocol.

A child process holds the tracer's instance. It notices when this process ends, whatever ends it, and removes the instance;
should the child be killed too, the next run removes what it left.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap, Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs, tracefs

EVENT = "skb/kfree_skb"
#: The tracer's buffer for all CPUs together, in KiB; about 20 events fit into one. What finds no room is counted as lost.
BUFFER_KIB = 4096
#: Different (reason, location, protocol) reported, most first.
LIMIT = 500
#: Seconds after which the child removes the instance in any case.
LIFETIME = 300.0

_LINE = re.compile(r"protocol=(\d+) location=(.*?)(?: reason: (\S+))?$")
_PROTOCOLS = {0: "none", 0x0800: "ipv4", 0x86DD: "ipv6", 0x0806: "arp", 0x8100: "vlan", 0x88CC: "lldp", 0x8847: "mpls"}


@dataclass
class Running:
    """A window that is open: the child and the way to talk to it; None when there is none, with the reason in gaps."""

    child: int | None = None
    channel: socket.socket | None = None
    gaps: list[Gap] = field(default_factory=list)


class DropReasons:
    """``begin`` starts to count, ``end`` stops and tells; between them the caller does what it likes."""

    def begin(self) -> Running:
        running = Running()
        why = _cannot()
        if why:
            running.gaps.append(Gap("drop_reasons", why))
            return running
        ours, theirs = socket.socketpair()
        try:
            child = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            running.gaps.append(Gap("drop_reasons", f"fork: {procfs.reason(error)}"))
            return running
        if child == 0:
            _child(theirs)
        theirs.close()
        running.child, running.channel = child, ours
        answer = _receive(ours, 10.0)
        if answer is None or "error" in answer:
            said = answer["error"] if answer else "the tracer did not start in time"
            running.gaps.append(Gap("drop_reasons", str(said)))
            self._finish(running)
        return running

    def end(self, running: Running) -> Section:
        """Data: ``{seconds, scope, total, lost, reasons: [{reason, location, protocol, count}]}``; null when not counted.

        scope: ``host``, or ``machine`` when this process sees a container of it only: the tracer cannot be narrowed to one
        network namespace, so drops of other containers are in it. reason: the kernel's name, null before 5.17. location: the
        function that freed the packet. protocol: by Ethernet type, ``none`` for packets that have none. total: without the
        lost. Some reasons are no fault (a closing socket, a packet for another host): names are given, judging is not done here.
        """
        section = Section(None, list(running.gaps))
        if running.channel is None:
            return section
        try:
            running.channel.send(b"e")
            answer = _receive(running.channel, 20.0)
        except OSError as error:
            answer = {"error": f"the tracer ended: {procfs.reason(error)}"}
        self._finish(running)
        if answer is None or "error" in answer:
            section.gap("drop_reasons", str(answer["error"]) if answer else "the tracer gave no answer in time")
            return section
        section.data = answer
        if answer["scope"] == "machine":
            section.gap(
                "drop_reasons.scope", "the tracer counts the whole machine, not this container or network namespace alone"
            )
        if answer["reasons"] and all(entry["reason"] is None for entry in answer["reasons"]):
            section.gap("drop_reasons.reason", "this kernel gives no drop reasons (they came with 5.17): functions only")
        if answer["lost"]:
            section.gap("drop_reasons.lost", f"{answer['lost']} more drops found no room in the buffer")
        return section

    @staticmethod
    def _finish(running: Running) -> None:
        """Close the channel, on which the child ends, and collect the child."""
        if running.channel is not None:
            running.channel.close()
            running.channel = None
        if running.child is None:
            return
        deadline = time.monotonic() + 10.0
        while os.waitpid(running.child, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(running.child, signal.SIGKILL)
                os.waitpid(running.child, 0)
                break
            time.sleep(0.005)
        running.child = None


def _cannot() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    if tracefs.mounted() is None and not tracefs.supported():
        return "this kernel has no tracefs"
    return None


def _receive(channel: socket.socket, seconds: float) -> dict[str, Any] | None:
    """One JSON line from the child; None when none came in time, or the child ended without one."""
    deadline = time.monotonic() + seconds
    data = b""
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([channel], [], [], left)[0]:
            return None
        part = channel.recv(1 << 16)
        if not part:
            return None
        data += part
    answer: dict[str, Any] = json.loads(data)
    return answer


def _child(channel: socket.socket) -> None:
    """The child's whole life. It never returns: what the parent registered to run at its end is the parent's."""
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        # The parent's pipes must not be held open: a controller waits for their end.
        keep = os.dup2(channel.fileno(), 3) if channel.fileno() != 3 else 3
        empty = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(empty, descriptor)
        os.closerange(4, 4096)
        _trace(socket.socket(fileno=os.dup(keep)))
    finally:
        os._exit(0)


def _trace(channel: socket.socket) -> None:
    instance = None
    answer: dict[str, Any] | None = None
    try:
        root = tracefs.mounted() or tracefs.mount_privately()
        tracefs.remove_stale(root)
        if not os.path.isdir(f"{root}/events/{EVENT}"):
            raise OSError(2, f"the kernel has no event {EVENT}")
        instance = tracefs.Instance(root, tracefs.own_name())
        instance.open(EVENT, max(64, min(1024, BUFFER_KIB // (os.cpu_count() or 1))))
        started = time.monotonic()
        _send(channel, {"ready": True})
        if select.select([channel], [], [], LIFETIME)[0] and channel.recv(1) == b"e":
            instance.stop()
            seconds = time.monotonic() - started
            with open(f"{instance.path}/trace", encoding="ascii", errors="replace") as lines:
                counts = count_lines(lines)
            answer = summary(counts, seconds, instance.lost())
    except OSError as error:
        answer = {"error": f"tracefs: {procfs.reason(error)}"}
    finally:
        if instance is not None:
            instance.remove()
        # Sent when nothing is left behind: the parent may rely on it.
        if answer is not None:
            _send(channel, answer)


def _send(channel: socket.socket, answer: dict[str, Any]) -> None:
    channel.sendall(json.dumps(answer).encode("ascii") + b"\n")


def count_lines(lines: Any) -> Counter[tuple[str | None, str, int]]:
    """Count the events of a trace by (reason, function, protocol). Lines of other forms are passed over."""
    counts: Counter[tuple[str | None, str, int]] = Counter()
    for line in lines:
        found = _LINE.search(line)
        if found is not None:
            function = found[2].split("+", 1)[0].split(" ", 1)[0]
            counts[found[3], function, int(found[1])] += 1
    return counts


def summary(counts: Counter[tuple[str | None, str, int]], seconds: float, lost: int) -> dict[str, Any]:
    machine = procfs.in_container() or not procfs.initial_network()
    return {
        "seconds": round(seconds, 3),
        "scope": "machine" if machine else "host",
        "total": sum(counts.values()),
        "lost": lost,
        "reasons": [
            {"reason": reason, "location": function, "protocol": _PROTOCOLS.get(protocol, f"0x{protocol:04x}"), "count": count}
            for (reason, function, protocol), count in counts.most_common(LIMIT)
        ],
    }
