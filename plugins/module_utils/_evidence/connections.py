# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which processes connect where, how long the handshake takes, and how attempts fail: every connect() of TCP during a window.

Two sources give the same events. bpftrace, where it is installed, sees one network namespace and the socket's error; without it
the tracer's own events do, for the whole machine, with the error where the kernel reports it (5.13 and newer).
A connect() that fails before its first packet (no route, a route or hook that prohibits it, no free port) changes no state or
ends without an error of the socket: bpftrace takes it from what the system call returns, the tracer does not see it.
Sources: include/trace/events/sock.h (inet_sock_set_state since 4.16, inet_sk_error_report since 5.13), net/ipv4/tcp_ipv4.c and
net/ipv4/af_inet.c (tcp_v4_connect, __inet_stream_connect)
"""

from __future__ import annotations

import errno
import ipaddress
import json
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import bpftrace, tracing
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs, ringbuffer, tracefs

_STATE, _ERROR = "sock/inet_sock_set_state", "sock/inet_sk_error_report"
_CALL = "syscalls/sys_exit_connect"
_ESTABLISHED, _SYN_SENT, _CLOSE = 1, 2, 7
BUFFER_KIB = 8192
#: Groups (process, destination) told, busiest first, and attempts held at the same time.
LIMIT, MAX_OPEN = 500, 200_000
SOURCES = ("auto", "bpftrace", "tracefs")

# Tallied in the kernel: a line for each attempt would wake its reader each time, which takes longer than all the rest. Keys of a
# tally: name of the process, destination, port, and of failures the socket's error. Times are microseconds.
_SCRIPT = r"""
tracepoint:sock:inet_sock_set_state
/(args->oldstate == 2 || args->newstate == 2) && args->protocol == 6/
{
    $sk = (struct sock *)args->skaddr;
    if (args->newstate == 2) {
        if ($sk->__sk_common.skc_net.net->ns.inum == NETNS) {
            @begun[args->skaddr] = nsecs;
            @who[args->skaddr] = comm;
            @attempts[comm, ntop(10, args->daddr_v6), args->dport] = count();
            @all = count();
        }
    } else {
        $begun = @begun[args->skaddr];
        if ($begun != 0) {
            $who = @who[args->skaddr];
            $to = ntop(10, args->daddr_v6);
            if (args->newstate == 1) {
                $took = (nsecs - $begun) / 1000;
                @took[$who, $to, args->dport] = stats($took);
                @least[$who, $to, args->dport] = min($took);
                @most[$who, $to, args->dport] = max($took);
            } else {
                FAILED
            }
            delete(@begun[args->skaddr]);
            delete(@who[args->skaddr]);
        }
    }
}
"""
_END = "END { clear(@begun); clear(@who); }\n"
_FAILED = "@failed[$who, $to, args->dport, $sk->sk_err] = count();"
# Where the system call is seen too, each failure is told once. A socket whose connect() has not yet returned from its first step
# (SS_UNCONNECTED, 1) and has no error fails in that step: what the call returns is counted, its attempt was. Others end by
# what the network said, and a call that waits for it, or a later one, returns that: its inode tells such a call from one that
# never began. Errors that only the network gives need no such note, so that a flood of refusals fills no map.
_FAILED_ONCE = """
                $call = @call[tid];
                if ($sk->sk_err == 0 && $sk->sk_socket->state == 1 && $call.1 != 0) {
                    @within[tid] = 1;
                } else {
                    @failed[$who, $to, args->dport, $sk->sk_err] = count();
                    if ($sk->sk_err != 0 && $sk->sk_err != 104 && $sk->sk_err != 110 && $sk->sk_err != 111) {
                        @ended[$sk->sk_socket->file->f_inode->i_ino] = 1;
                    }
                }
"""
# Keys of never (an attempt that changed no state) and within (one that did, and was counted): name of the process, destination,
# port as the network writes it, errno. Not failures to connect: EINPROGRESS, EALREADY, EISCONN, an interrupted call, and a call
# with something that is no socket or no address.
_CALLS = r"""
tracepoint:syscalls:sys_enter_connect { @call[tid] = (args->fd, args->uservaddr); }
tracepoint:syscalls:sys_exit_connect
{
    if (args->ret < 0 && args->ret != -115) {
        $call = @call[tid];
        $in = @within[tid];
        delete(@within[tid]);
        $error = 0 - args->ret;
        $no = $error == 114 || $error == 106 || $error == 4 || $error >= 512 || $error == 9 || $error == 88 || $error == 14;
        if ($call.1 != 0 && !$no) {
            $task = (struct task_struct *)curtask;
            $file = *($task->files->fdt->fd + $call.0);
            $sock = (struct socket *)$file->private_data;
            $sk = $sock->sk;
            $family = $sk->__sk_common.skc_family;
            if ($sk->__sk_common.skc_net.net->ns.inum == NETNS && $sk->sk_protocol == 6 && ($family == 2 || $family == 10)) {
                $ended = @ended[$file->f_inode->i_ino];
                delete(@ended[$file->f_inode->i_ino]);
                $to = (struct sockaddr_in *)uptr($call.1);
                $to6 = (struct sockaddr_in6 *)uptr($call.1);
                if ($in != 0) {
                    if ($to->sin_family == 2) {
                        @within4[comm, ntop(2, $to->sin_addr.s_addr), $to->sin_port, $error] = count();
                    } else {
                        @within6[comm, ntop(10, $to6->sin6_addr.in6_u.u6_addr8), $to6->sin6_port, $error] = count();
                    }
                } else if ($ended == 0 && $error != 103 && $error != 104 && $error != 110 && $error != 111) {
                    if ($to->sin_family == 2) {
                        @never4[comm, ntop(2, $to->sin_addr.s_addr), $to->sin_port, $error] = count();
                        @all = count();
                    }
                    if ($to->sin_family == 10) {
                        @never6[comm, ntop(10, $to6->sin6_addr.in6_u.u6_addr8), $to6->sin6_port, $error] = count();
                        @all = count();
                    }
                }
            }
        }
    }
    delete(@call[tid]);
}
END { clear(@begun); clear(@who); clear(@call); clear(@within); clear(@ended); }
"""
#: The tallies of these calls.
_BY_CALL = ("@never4", "@never6", "@within4", "@within6")


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
    """One process and destination. least, total, most: milliseconds that handshakes took."""

    attempts: int = 0
    connected: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    least: float = math.inf
    total: float = 0.0
    most: float = 0.0

    def takes(self, milliseconds: float) -> None:
        self.connected += 1
        self.least, self.most = min(self.least, milliseconds), max(self.most, milliseconds)
        self.total += milliseconds

    def fails(self, how: str, count: int = 1) -> None:
        self.failed[how] = self.failed.get(how, 0) + count

    @property
    def pending(self) -> int:
        return max(0, self.attempts - self.connected - sum(self.failed.values()))

    def to_dict(self) -> dict[str, Any]:
        rtt = {"min": self.least, "avg": self.total / max(1, self.connected), "max": self.most}
        return {
            "attempts": self.attempts,
            "connected": self.connected,
            "pending": self.pending,
            "failed": dict(sorted(self.failed.items())),
            "rtt_ms": {name: round(value, 3) for name, value in rtt.items()} if self.connected else None,
        }


#: By name of the process, destination, port.
Reports = dict[tuple[str, str, int], Report]


def watch(seconds: float, source: str = "auto", netns: str | None = None) -> Section:
    """Watch for ``seconds``. Changes nothing, and leaves nothing, also when killed.

    Data: ``{source, scope, seconds, lost, attempts, connections: [{process, destination, port, attempts, connected, pending,
    failed: {errno name: n}, rtt_ms: {min, avg, max} | null}]}``, most failures first; null when nothing could be watched.
    failed: ECONNREFUSED (RST), ETIMEDOUT, EHOSTUNREACH …; before the first packet ENETUNREACH, EACCES, EPERM, EADDRNOTAVAIL …;
    ``closed`` when the process gave up, ``unknown`` where the kernel does not tell. pending: no answer until the end of the
    window. scope: netns, or machine when it cannot be narrowed.
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
    calls = answer.pop("calls")
    section.data = answer
    if not calls:
        section.gap(
            "connections.calls",
            "a connect() that fails before its first packet (no route, prohibited, no free port) is not seen, or seen as closed",
        )
    if answer["lost"]:
        section.gap("connections.lost", f"{answer['lost']} more events found no room")
    if answer["scope"] == "machine":
        section.gap("connections.scope", "the tracer watches the whole machine, not this container or network namespace alone")
    return section


def _by_bpftrace(told: tracing.Signal) -> dict[str, Any] | None:
    """In the child."""
    calls = os.path.isdir(f"{tracing.root()}/events/{_CALL}")
    found = bpftrace.run(script(os.stat("/proc/self/ns/net").st_ino, calls), told, form="json")
    if found is None:
        return None
    lines, lost, seconds = found
    reports, more = parse(lines)
    return {**summary(reports, seconds, lost + more, "bpftrace", "netns"), "calls": calls}


def script(netns: int, calls: bool) -> str:
    """The program for one network namespace. calls: with what connect() itself returns, for which a kernel needs its events."""
    text = _SCRIPT.replace("FAILED", (_FAILED_ONCE if calls else _FAILED).strip()) + (_CALLS if calls else _END)
    return text.replace("NETNS", str(netns))


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
        return {**summary(tally(changes), seconds, instance.lost(), "tracefs", tracing.scope()), "calls": False}
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


def parse(lines: Iterable[str]) -> tuple[Reports, int]:
    """What the script tallied, and the number of attempts for which a tally had no room. Lines of other forms are passed over.

    A key may come twice, since its padding differs: each is a tally of its own.
    """
    tallies: dict[str, list[tuple[str, Any]]] = {}
    all_told = 0
    for line in lines:
        try:
            said = json.loads(line, object_pairs_hook=list)
            told = dict(said)
            data = told["data"] if told["type"] in ("map", "stats") else []
            for name, entries in data:
                if name == "@all":
                    all_told += int(entries)
                else:
                    tallies.setdefault(name, []).extend((str(key), value) for key, value in entries)
        except (ValueError, TypeError, KeyError):
            continue
    reports: Reports = {}

    def of(name: str, commas: int = 2) -> Iterator[tuple[Report, int, str]]:
        for key, value in tallies.get(name, ()):
            report, rest = _report(reports, key, commas, name in _BY_CALL)
            count = _count(value)
            if report is not None and count is not None:
                yield report, count, rest

    for report, count, _rest in of("@attempts"):
        report.attempts += count
    for report, least, _rest in of("@least"):
        report.least = min(report.least, least / 1e3)
    for report, most, _rest in of("@most"):
        report.most = max(report.most, most / 1e3)
    for key, value in tallies.get("@took", ()):
        found, _rest = _report(reports, key, 2)
        count, total = _stats(value)
        if found is not None and count:
            found.connected, found.total = found.connected + count, found.total + total / 1e3
    for name in ("@failed", *_BY_CALL):
        for report, count, error in of(name, 3):
            if error.lstrip("-").isdigit():
                report.fails(_how(abs(int(error))), count)
                report.attempts += count if name.startswith("@never") else 0
    reports = {place: one for place, one in reports.items() if one.attempts}
    lost = max(0, all_told - sum(one.attempts for one in reports.values()))
    # Of so many open attempts none more can be followed to its end.
    lost += max(0, sum(one.pending for one in reports.values()) - bpftrace.MAX_KEYS)
    return reports, lost


def _report(reports: Reports, key: str, commas: int, swapped: bool = False) -> tuple[Report | None, str]:
    """That of a tally's key, and what follows it; None for another form. A name of a process may hold commas.

    swapped: the port stands as the network writes it.
    """
    words = key.rsplit(",", commas)
    if len(words) != commas + 1 or not words[2].isdigit():
        return None, ""
    try:
        address = ipaddress.ip_address(words[1])
    except ValueError:
        return None, ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    port = int(words[2])
    port = socket.ntohs(port & 0xFFFF) if swapped else port
    return reports.setdefault((words[0], str(mapped or address), port), Report()), "".join(words[3:])


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _stats(value: Any) -> tuple[int, int]:
    """(count, total) of what bpftrace's stats() prints."""
    try:
        said = dict(value)
        count, total = _count(said["count"]), _count(said["total"])
    except (TypeError, ValueError, KeyError):
        return 0, 0
    return (count, total) if count and total is not None else (0, 0)


def tally(changes: list[Change]) -> Reports:
    """What the changes say by process and destination."""
    open_now: dict[int, Change] = {}
    reports: Reports = {}
    for change in changes:
        if change.new == _SYN_SENT:
            reports.setdefault((change.process, change.address, change.port), Report()).attempts += 1
            if len(open_now) < MAX_OPEN:
                open_now[change.socket] = change
            continue
        begun = open_now.pop(change.socket, None)
        if begun is None:
            continue  # begun before the window
        report = reports[begun.process, begun.address, begun.port]
        if change.new == _ESTABLISHED:
            report.takes((change.time - begun.time) / 1e6)
        else:
            report.fails(_how(change.error))
    return reports


def summary(reports: Reports, seconds: float, lost: int, source: str, scope: str) -> dict[str, Any]:
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
            {"process": process, "destination": address, "port": port, **one.to_dict()}
            for (process, address, port), one in ordered[:LIMIT]
        ],
    }


def _how(error: int | None) -> str:
    if error is None:
        return "unknown"
    return errno.errorcode.get(error, str(error)) if error else "closed"
