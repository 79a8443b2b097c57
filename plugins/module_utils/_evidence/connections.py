# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which processes connect where, how long the handshake takes, and how attempts fail: every connect() of TCP during a window.

Two sources give the same events. bpftrace, where it is installed, sees one network namespace and the socket's error; without it
the tracer's own events do, for the whole machine, with the error where the kernel reports it (5.13 and newer).
Sources: include/trace/events/sock.h (inet_sock_set_state since 4.16, inet_sk_error_report since 5.13)
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import bpftrace, tracing
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs, ringbuffer, tracefs

_STATE, _ERROR = "sock/inet_sock_set_state", "sock/inet_sk_error_report"
_ESTABLISHED, _SYN_SENT, _CLOSE = 1, 2, 7
BUFFER_KIB = 8192
#: Groups (process, destination) told, busiest first, and attempts held at the same time.
LIMIT, MAX_OPEN = 500, 200_000
SOURCES = ("auto", "bpftrace", "tracefs")

_SCRIPT = r"""
tracepoint:sock:inet_sock_set_state
/args->protocol == 6 && (args->oldstate == 2 || args->newstate == 2)/
{
    $sk = (struct sock *)args->skaddr;
    if (NETNS == 0 || $sk->__sk_common.skc_net.net->ns.inum == NETNS) {
        printf("s %lu %lx %d %d %d %d %d %d %d ", nsecs, (uint64)args->skaddr, args->oldstate, args->newstate, tid,
               args->sport, args->dport, args->family, $sk->sk_err);
        if (args->family == 10) { printf("%s %s ", ntop(10, args->saddr_v6), ntop(10, args->daddr_v6)); }
        else { printf("%s %s ", ntop(2, args->saddr), ntop(2, args->daddr)); }
        printf("%s\n", comm);
    }
}
"""


@dataclass
class Change:
    """A TCP socket leaves or enters SYN_SENT. time: nanoseconds. error: errno of the socket, 0 for none, None for not known."""

    time: int
    socket: int
    old: int
    new: int
    task: int
    process: str
    source: str
    sport: int
    address: str
    port: int
    error: int | None = None


@dataclass
class Report:
    """One process and destination."""

    attempts: int = 0
    connected: int = 0
    pending: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    rtt_ms: list[float] = field(default_factory=list)


def watch(seconds: float, source: str = "auto", netns: str | None = None) -> Section:
    """Watch for ``seconds``. Changes nothing, and leaves nothing, also when killed.

    Data: ``{source, scope, seconds, lost, attempts, connections: [{process, destination, port, attempts, connected, pending,
    failed: {errno name: n}, rtt_ms: {min, avg, max} | null}]}``, most failures first; null when nothing could be watched.
    failed: ECONNREFUSED (RST), ETIMEDOUT, EHOSTUNREACH …; ``closed`` when the process gave up, ``unknown`` where the kernel does
    not tell. pending: no answer until the end of the window. scope: netns, or machine when it cannot be narrowed.
    """
    section = Section(None)
    why = bpftrace.cannot()
    if source == "bpftrace" and why:
        section.gap("connections", f"bpftrace: {why}")
        return section
    running = None
    if source != "tracefs" and not why:
        running = tracing.begin("connections", _by_bpftrace, seconds + 60)
        if running.channel is None and source == "auto":
            section.gap("connections.bpftrace", "; ".join(gap.why for gap in running.gaps))
            running = None
    elif source == "auto":
        section.gap("connections.bpftrace", f"{why}: the tracer is used, which cannot be narrowed to one network namespace")
    if running is None:
        running = tracing.begin("connections", _by_tracefs, seconds + 60)
    section.gaps += running.gaps
    if running.channel is None:
        return section
    time.sleep(seconds)
    answer = tracing.end(running)
    if "error" in answer:
        section.gap("connections", str(answer["error"]))
        return section
    section.data = answer
    if answer["lost"]:
        section.gap("connections.lost", f"{answer['lost']} more events found no room")
    if answer["scope"] == "machine":
        section.gap("connections.scope", "the tracer watches the whole machine, not this container or network namespace alone")
    return section


def _by_bpftrace(told: tracing.Signal) -> dict[str, Any] | None:
    """In the child."""
    inode = os.stat("/proc/self/ns/net").st_ino
    script = _SCRIPT.replace("NETNS", str(inode))
    found = bpftrace.run(script, told)
    if found is None:
        return None
    lines, lost, seconds = found
    return summary(parse(lines), seconds, lost, "bpftrace", "netns")


def _by_tracefs(told: tracing.Signal) -> dict[str, Any] | None:
    """In the child."""
    root = tracing.root()
    tracefs.remove_stale(root)
    present = [event for event in (_STATE, _ERROR) if os.path.isdir(f"{root}/events/{event}")]
    if _STATE not in present:
        raise OSError(2, f"the kernel has no event {_STATE} (it came with 4.16)")
    formats = {event: ringbuffer.parse_format(procfs.text(f"{root}/events/{event}/format")) for event in present}
    instance = tracefs.Instance(root, tracefs.own_name())
    try:
        instance.open(present, BUFFER_KIB)
        told.ready()
        if not told.wait():
            return None
        instance.stop()
        seconds = time.monotonic() - told.started
        names = _names(procfs.text_or_none(f"{root}/saved_cmdlines") or "")
        changes = read(instance.pages(), formats, names)
        return summary(changes, seconds, instance.lost(), "tracefs", tracing.scope())
    finally:
        instance.remove()


def _names(text: str) -> dict[int, str]:
    """Task → name, as the tracer saved them."""
    found = {}
    for line in text.splitlines():
        task, _space, name = line.partition(" ")
        if task.isdigit():
            found[int(task)] = name
    return found


def read(pages: Iterable[bytes], formats: dict[str, ringbuffer.Format], names: dict[int, str]) -> list[Change]:
    """The changes of a ring buffer, by time. An error that the kernel reports is put to the change of the same connection."""
    by_number = {one.number: name for name, one in formats.items()}
    state, report = formats[_STATE], formats.get(_ERROR)
    changes: list[Change] = []
    errors: dict[tuple[int, str, int], int] = {}
    collected = sorted((event for page in pages for event in ringbuffer.events(page)), key=lambda event: event.time)
    for event in collected:
        if report is not None and by_number.get(event.kind) == _ERROR:
            one = _addresses(report, event)
            errors[one[1], one[2], one[3]] = report.value(event, "error") or 0
        elif by_number.get(event.kind) == _STATE and state.value(event, "protocol") == socket.IPPROTO_TCP:
            old, new = state.value(event, "oldstate") or 0, state.value(event, "newstate") or 0
            if _SYN_SENT not in (old, new):
                continue
            source, sport, address, port = _addresses(state, event)
            name = names.get(event.pid) or (procfs.text_or_none(f"/proc/{event.pid}/comm", 64) or "?").strip()
            changes.append(
                Change(event.time, state.value(event, "skaddr") or 0, old, new, event.pid, name, source, sport, address, port)
            )
    if report is not None:
        for change in changes:
            change.error = errors.get((change.sport, change.address, change.port), 0)
    return changes


def _addresses(form: ringbuffer.Format, event: ringbuffer.Event) -> tuple[str, int, str, int]:
    family = form.value(event, "family")
    suffix, kind, size = ("_v6", socket.AF_INET6, 16) if family == socket.AF_INET6 else ("", socket.AF_INET, 4)
    found = [form.content(event, f"{side}addr{suffix}")[:size].ljust(size, b"\0") for side in "sd"]
    return (
        socket.inet_ntop(kind, found[0]), form.value(event, "sport") or 0,
        socket.inet_ntop(kind, found[1]), form.value(event, "dport") or 0,
    )  # fmt: skip


def parse(lines: Iterable[str]) -> list[Change]:
    """The changes that the script printed. Lines of other forms are passed over: a name in them may be anything."""
    changes = []
    for line in lines:
        words = line.split(" ", 12)
        if len(words) != 13 or words[0] != "s":
            continue
        try:
            time_ns, address, old, new, task, sport, dport, _family, error = (
                int(words[1]), int(words[2], 16), *(int(word) for word in words[3:10]),
            )  # fmt: skip
        except ValueError:
            continue
        changes.append(Change(time_ns, address, old, new, task, words[12], words[10], sport, words[11], dport, abs(error)))
    return sorted(changes, key=lambda change: change.time)


def summary(changes: list[Change], seconds: float, lost: int, source: str, scope: str) -> dict[str, Any]:
    """What the changes say by process and destination."""
    open_now: dict[int, Change] = {}
    reports: dict[tuple[str, str, int], Report] = {}
    for change in changes:
        if change.new == _SYN_SENT:
            report = reports.setdefault((change.process, change.address, change.port), Report())
            report.attempts += 1
            report.pending += 1
            if len(open_now) < MAX_OPEN:
                open_now[change.socket] = change
            continue
        begun = open_now.pop(change.socket, None)
        if begun is None:
            continue  # begun before the window
        report = reports[begun.process, begun.address, begun.port]
        report.pending -= 1
        if change.new == _ESTABLISHED:
            report.connected += 1
            report.rtt_ms.append((change.time - begun.time) / 1e6)
        else:
            how = _how(change)
            report.failed[how] = report.failed.get(how, 0) + 1
    ordered = sorted(
        reports.items(), key=lambda item: (-sum(item[1].failed.values()), -item[1].pending, -item[1].attempts, item[0])
    )
    return {
        "source": source,
        "scope": scope,
        "seconds": round(seconds, 3),
        "lost": lost,
        "attempts": sum(one.attempts for one in reports.values()),
        "connections": [
            {
                "process": process,
                "destination": address,
                "port": port,
                "attempts": one.attempts,
                "connected": one.connected,
                "pending": one.pending,
                "failed": dict(sorted(one.failed.items())),
                "rtt_ms": {
                    "min": round(min(one.rtt_ms), 3),
                    "avg": round(sum(one.rtt_ms) / len(one.rtt_ms), 3),
                    "max": round(max(one.rtt_ms), 3),
                }
                if one.rtt_ms
                else None,
            }
            for (process, address, port), one in ordered[:LIMIT]
        ],
    }


def _how(change: Change) -> str:
    if change.error is None:
        return "unknown"
    return errno.errorcode.get(change.error, str(change.error)) if change.error else "closed"
