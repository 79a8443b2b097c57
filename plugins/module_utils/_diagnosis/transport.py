# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""TCP beneath the programs: ports that run out, handshakes that are dropped, retransmissions, memory. (D03, D13)"""

from __future__ import annotations

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.queues import delta, window

#: Part of the ephemeral ports towards one service from which on they are a finding.
PORTS_SHARE = 0.9
#: Retransmitted segments of all that were sent, and how many there must be: a few are the way TCP probes.
RETRANS_SHARE, RETRANS_LEAST = 0.02, 20


def find(facts: Facts) -> list[Finding]:
    return ephemeral_ports(facts) + syn_queue(facts) + retransmits(facts) + memory(facts)


def ephemeral_ports(facts: Facts) -> list[Finding]:
    """Each connection to one address and port takes a local port of its own."""
    sysctls = facts.section("sysctls") or {}
    bounds = str(sysctls.get("net.ipv4.ip_local_port_range", "")).split()
    if len(bounds) != 2 or not all(one.isdigit() for one in bounds):
        return []
    size = int(bounds[1]) - int(bounds[0]) + 1
    listening = {f"{one['proto']}/{one['port']}" for one in (facts.section("sockets") or {}).get("listeners") or []}
    out = []
    for port, states in ((facts.section("sockets") or {}).get("ports") or {}).items():
        count = sum(int(number or 0) for number in states.values())
        if port in listening and not _mostly_ours(facts, port):
            continue
        if not port.startswith("tcp/") or count < PORTS_SHARE * size or size <= 0:
            continue
        whole = count >= size
        out.append(
            Finding(
                "ephemeral-ports-exhausted",
                "likely",
                "critical" if whole else "warning",
                "net.ipv4.ip_local_port_range",
                f"{count} connections to {port} use up the {size} ephemeral ports ({' '.join(bounds)}): new ones fail.",
                [f"{state}: {number}" for state, number in sorted(states.items())]
                + [f"net.ipv4.ip_local_port_range {' '.join(bounds)}: {size} ports, a finding from {PORTS_SHARE:.0%} on"],
                [
                    "sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
                    "# and keep connections open instead of making one for each request",
                ],
                ["D03", "T02"],
                {"port": port, "count": count, "sysctl": "net.ipv4.ip_local_port_range"},
            )
        )
    return out


def _mostly_ours(facts: Facts, port: str) -> bool:
    """The port is listened on here, too: only a target elsewhere says that the connections lead there."""
    target = facts.target
    return target is not None and target.address is not None and f"{target.proto}/{target.port}" == port


def syn_queue(facts: Facts) -> list[Finding]:
    """Half-open connections beyond the queue: dropped, or answered by cookies, which lose the options of the handshake."""
    dropped, cookies = delta(facts, "tcp", "TCPReqQFullDrop"), delta(facts, "tcp", "TCPReqQFullDoCookies")
    sysctls = facts.section("sysctls") or {}
    half = int(((facts.section("sockets") or {}).get("states") or {}).get("tcp", {}).get("SYN_RECV", 0))
    backlog = str(sysctls.get("net.ipv4.tcp_max_syn_backlog", ""))
    if sysctls.get("net.ipv4.tcp_syncookies") == "0" and backlog.isdigit() and half >= 0.75 * int(backlog):
        # Without cookies the last quarter is kept for known peers, and what is dropped there has no counter of its own.
        dropped = max(dropped, delta(facts, "tcp", "ListenDrops") - delta(facts, "tcp", "ListenOverflows"))
    if dropped <= 0 and cookies <= 0:
        return []
    return [
        Finding(
            "syn-queue-overflow",
            "proven",
            "critical" if dropped > 0 else "warning",
            "net.ipv4.tcp_max_syn_backlog",
            f"The queue of half-open connections overflowed {window(facts)}: {dropped} SYN dropped, {cookies} by cookies.",
            [
                f"{dropped} SYN dropped and {cookies} answered by cookies, by the kernel's counters",
                f"{half} connections in SYN_RECV now",
                f"net.ipv4.tcp_max_syn_backlog {sysctls.get('net.ipv4.tcp_max_syn_backlog', 'not known')}, "
                f"net.ipv4.tcp_syncookies {sysctls.get('net.ipv4.tcp_syncookies', 'not known')}",
            ],
            [
                "sysctl -w net.ipv4.tcp_syncookies=1",
                "sysctl -w net.ipv4.tcp_max_syn_backlog=8192",
                "# clients whose answers do not arrive, or a flood? see: ss -tn state syn-recv",
            ],
            ["D03", "D13"],
            {"sysctl": "net.ipv4.tcp_max_syn_backlog"},
        )
    ]


def retransmits(facts: Facts) -> list[Finding]:
    """A part of what is sent is lost on the way, or its acknowledgements are."""
    # A SYN that is sent again got no answer: that is no loss among what flows, and has findings of its own.
    again = delta(facts, "tcp", "RetransSegs") - delta(facts, "tcp", "TCPSynRetrans")
    sent = int((facts.section("drops") or {}).get("out_segments") or 0)
    if again < RETRANS_LEAST or again < RETRANS_SHARE * sent:
        return []
    said = [
        f"{name} grew by {delta(facts, 'tcp', name)}"
        for name in ("TCPLostRetransmit", "TCPTimeouts", "TCPSpuriousRTOs")
        if delta(facts, "tcp", name) > 0
    ]
    return [
        Finding(
            "tcp-retransmits",
            "likely",
            "warning",
            "TCP",
            f"{again} of {sent} segments ({again / max(1, sent):.0%}) were sent again {window(facts)}: packets are lost.",
            [f"RetransSegs grew by {again}, OutSegs by {sent} {window(facts)}", *said],
            [
                "ss -tni state established | grep -B1 retrans",
                "# which peers? then: a link with errors, a full queue, or a lossy path",
            ],
            ["D11", "D13"],
        )
    ]


def memory(facts: Facts) -> list[Finding]:
    """The memory of all TCP sockets together is at its limit."""
    pressed, aborted = delta(facts, "tcp", "TCPMemoryPressures"), delta(facts, "tcp", "TCPAbortOnMemory")
    if pressed <= 0 and aborted <= 0:
        return []
    return [
        Finding(
            "tcp-memory-pressure",
            "proven",
            "critical" if aborted > 0 else "warning",
            "net.ipv4.tcp_mem",
            f"TCP ran into its memory limit {window(facts)}: {pressed} times under pressure, {aborted} connections aborted.",
            [
                f"TCPMemoryPressures grew by {pressed}, TCPAbortOnMemory by {aborted}",
                f"net.ipv4.tcp_mem is {(facts.section('sysctls') or {}).get('net.ipv4.tcp_mem', 'not known')} pages",
            ],
            ["ss -tnm | sort -t, -k1 | head", "# programs that do not read, or net.ipv4.tcp_mem too small for this host"],
            ["D13", "D30"],
            {"sysctl": "net.ipv4.tcp_mem"},
        )
    ]
