# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Queues in front of programs: accept queues, connections that pile up, UDP receive buffers. (D03, D13)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts, shown_address, shown_process
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding

#: Connections in one state on one port from which on they are a finding, and what such a pile means.
PILES = {
    "SYN_SENT": (
        50,
        "the peer, or a firewall on the way, does not answer SYN",
        "# diagnose the peer: is it up, does a rule drop the SYN?",
    ),
    "SYN_RECV": (
        256,
        "handshakes are not finished: the answers do not reach the clients, or it is a flood",
        "sysctl -w net.ipv4.tcp_syncookies=1",
    ),
    "CLOSE_WAIT": (
        500,
        "the program does not close connections its clients have closed",
        "# restart or mend the program: it leaks connections",
    ),
}

#: Part of the ephemeral ports (or of tcp_max_tw_buckets) in TIME_WAIT from which on new connections fail.
TIME_WAIT_SHARE = 0.8


def find(facts: Facts) -> list[Finding]:
    return accept_queues(facts) + piles(facts) + time_wait(facts) + udp_buffers(facts)


def delta(facts: Facts, layer: str, counter: str) -> int:
    """Growth of a counter in the window; 0 when it did not grow, was reset or was not read."""
    layers = (facts.section("drops") or {}).get("layers") or {}
    found = (layers.get(layer) or {}).get(counter) or {}
    return int(found.get("delta") or 0)


def window(facts: Facts) -> str:
    seconds = (facts.section("drops") or {}).get("seconds") or 0
    return f"in {seconds:.1f} s"


def accept_queues(facts: Facts) -> list[Finding]:
    """A full accept queue drops the last packet of a handshake; the client believes it is connected, or waits."""
    sockets = facts.section("sockets") or {}
    dropped = delta(facts, "tcp", "ListenDrops")
    overflowed = delta(facts, "tcp", "ListenOverflows")
    full = [
        one
        for one in sockets.get("listeners") or []
        # The kernel calls a queue full when it holds more than the backlog (sk_acceptq_is_full).
        if one["proto"] == "tcp" and one.get("backlog") is not None and one.get("queue", 0) > one["backlog"]
    ]
    somaxconn = (facts.section("sysctls") or {}).get("net.core.somaxconn")
    out = []
    for one in full:
        out.append(_full_queue(facts, one, overflowed, dropped, somaxconn))
    if not full and overflowed > 0:
        busiest = sorted(
            (one for one in sockets.get("listeners") or [] if one["proto"] == "tcp" and one.get("backlog")),
            key=lambda one: -(one.get("queue", 0) / one["backlog"]),
        )
        suspects = [
            f"{shown_process(one)} on {shown_address(one['address'], one['port'])}: {one.get('queue', 0)} of {one['backlog']}"
            for one in busiest[:3]
        ]
        out.append(
            Finding(
                id="accept-queue-overflow",
                grade="likely",
                severity="warning",
                subject="accept queue",
                summary=f"Accept queues overflowed {overflowed} times {window(facts)}: new connections were dropped.",
                evidence=[f"ListenOverflows grew by {overflowed}, ListenDrops by {dropped} {window(facts)}"]
                + [f"fullest now: {line}" for line in suspects],
                fix=_queue_fix(busiest[0] if busiest else None, somaxconn),
                requirement=["D13", "T01"],
            )
        )
    return out


def _full_queue(facts: Facts, one: dict[str, Any], overflowed: int, dropped: int, somaxconn: str | None) -> Finding:
    place = shown_address(one["address"], one["port"])
    return Finding(
        id="accept-queue-overflow",
        grade="proven",
        severity="critical",
        subject=f"accept queue of {place}",
        summary=f"The accept queue of {shown_process(one)} on {place} is full: {one['queue']} wait, backlog {one['backlog']}.",
        evidence=[
            f"{one['queue']} connections wait to be accepted, the socket's backlog is {one['backlog']}",
            f"ListenOverflows grew by {overflowed}, ListenDrops by {dropped} {window(facts)}",
            f"net.core.somaxconn is {somaxconn or 'not known'}",
        ],
        fix=_queue_fix(one, somaxconn),
        requirement=["D13", "T01"],
        data={"port": one["port"], "pid": one.get("pid"), "backlog": one["backlog"], "queue": one["queue"]},
    )


def _queue_fix(listener: dict[str, Any] | None, somaxconn: str | None) -> list[str]:
    if listener is None:
        return ["# find the listener: ss -ltn (Recv-Q above Send-Q)"]
    who = shown_process(listener)
    steps = [f"# {who} does not accept fast enough: is it stuck or too slow?"]
    if somaxconn is not None and str(listener.get("backlog")) == somaxconn:
        steps += ["sysctl -w net.core.somaxconn=65535", f"# then restart {who}: a socket keeps the backlog it was opened with"]
    else:
        steps.append(
            f"# raise the listen backlog of {who} (now {listener.get('backlog')}) in its own configuration and restart it"
        )
    return steps


def piles(facts: Facts) -> list[Finding]:
    ports = (facts.section("sockets") or {}).get("ports") or {}
    out = []
    for port, states in sorted(ports.items()):
        for state, (limit, meaning, fix) in PILES.items():
            count = int(states.get(state) or 0)
            if count >= limit:
                out.append(_pile(f"{count} connections of {port} in {state}", state, port, count, f"{meaning}", fix, limit))
    everywhere = ((facts.section("sockets") or {}).get("states") or {}).get("tcp") or {}
    stuck = int(everywhere.get("SYN_SENT") or 0)
    if stuck >= PILES["SYN_SENT"][0] and not any(one.data.get("state") == "SYN_SENT" for one in out):
        limit, meaning, fix = PILES["SYN_SENT"]
        out.append(_pile(f"{stuck} connections in SYN_SENT", "SYN_SENT", "tcp", stuck, meaning, fix, limit))
    return out


def _pile(subject: str, state: str, port: str, count: int, meaning: str, fix: str, limit: int) -> Finding:
    return Finding(
        id="connections-piled-up",
        grade="likely",
        severity="warning",
        subject=subject,
        summary=f"{subject}: {meaning}.",
        evidence=[f"{count} in {state}, a finding from {limit} on"],
        fix=[fix],
        requirement=["D03"],
        data={"state": state, "port": port, "count": count},
    )


def time_wait(facts: Facts) -> list[Finding]:
    """TIME_WAIT uses up the ports of one destination, or the table."""
    sysctls = facts.section("sysctls") or {}
    count = int((((facts.section("sockets") or {}).get("states") or {}).get("tcp") or {}).get("TIME_WAIT") or 0)
    limits = {}
    ports = str(sysctls.get("net.ipv4.ip_local_port_range", "")).split()
    if len(ports) == 2 and all(one.isdigit() for one in ports):
        limits["ephemeral ports (net.ipv4.ip_local_port_range)"] = int(ports[1]) - int(ports[0]) + 1
    buckets = str(sysctls.get("net.ipv4.tcp_max_tw_buckets", ""))
    if buckets.isdigit():
        limits["net.ipv4.tcp_max_tw_buckets"] = int(buckets)
    for name, limit in sorted(limits.items(), key=lambda item: item[1]):
        if limit and count >= TIME_WAIT_SHARE * limit:
            return [
                Finding(
                    id="connections-piled-up",
                    grade="likely",
                    severity="warning",
                    subject=f"{count} connections in TIME_WAIT",
                    summary=f"{count} connections in TIME_WAIT use up {name} ({limit}): new outgoing connections will fail.",
                    evidence=[f"TIME_WAIT {count}, {name} {limit}, a finding from {TIME_WAIT_SHARE:.0%} on"],
                    fix=["sysctl -w net.ipv4.tcp_tw_reuse=1", "sysctl -w net.ipv4.ip_local_port_range='1024 65535'"],
                    requirement=["D03", "T02"],
                    data={"state": "TIME_WAIT", "count": count},
                )
            ]
    return []


def udp_buffers(facts: Facts) -> list[Finding]:
    lost = sum(delta(facts, "udp", name) for name in ("RcvbufErrors", "Udp6RcvbufErrors"))
    if lost <= 0:
        return []
    sysctls = facts.section("sysctls") or {}
    drops = (facts.section("sockets") or {}).get("udp_drops") or {}
    return [
        Finding(
            id="udp-receive-drops",
            grade="proven",
            severity="warning",
            subject="UDP receive buffers",
            summary=f"{lost} UDP datagrams were dropped {window(facts)} because a socket's receive buffer was full.",
            evidence=[
                f"RcvbufErrors grew by {lost} {window(facts)}",
                f"net.core.rmem_max is {sysctls.get('net.core.rmem_max', 'not known')}",
            ]
            + [
                f"{place}: {count} drops since it was opened"
                for place, count in sorted(drops.items(), key=lambda item: -int(item[1]))[:5]
            ],
            fix=["sysctl -w net.core.rmem_max=26214400", "# and let the program ask for a larger SO_RCVBUF, or read faster"],
            requirement=["D13", "D27"],
        )
    ]
