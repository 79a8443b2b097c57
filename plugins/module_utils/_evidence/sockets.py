# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Sockets: who listens where, how full the accept queues are, and in which states connections are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap, Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, procfs, rtnl, sockdiag

#: Ports with most connections that are reported beside those that listen, and peers that SYN_SENT sockets wait for.
BUSIEST = 20
#: Different addresses counted for each of those; a scan of the whole internet is not held in memory.
_MAX_KEYS = 20000

#: Who holds a socket: called with inodes, gives inode → object with pid, process, unit.
Owners = Callable[[set[int]], Mapping[int, Any]]


def read(target: tuple[str, int] | None = None, owners: Owners | None = None) -> Section:
    """Sockets of this network namespace. target: (protocol, port) the diagnosis is about.

    owners: who holds which socket (see Owners); without it processes are looked up by the census of descriptors.

    Data: ``{listeners, states, ports, syn_sent, udp_drops}``.
    listeners: ``[{proto, family, address, port, inode, uid, pid, process, unit, backlog, queue, v6only, drops}]``. proto: tcp,
    udp or sctp. For tcp ``queue`` is connections waiting to be accepted of at most ``backlog``; for udp bytes, backlog null.
    drops: packets dropped at the socket since it was made, null when not told. process: the command's short name.
    A UDP socket listens when it is bound and not connected.
    ports: ``tcp/N`` → {STATE: n}; a connection belongs to its local port when that one listens, else to the remote port.
    syn_sent: ``[{address, port, count}]``, the peers that connections being opened wait for, most first.
    udp_drops: ``udp/N`` → packets dropped at bound sockets of that port since they were made; only above 0.
    """
    section = Section({"listeners": [], "states": {}, "ports": {}, "syn_sent": [], "udp_drops": {}})
    listeners: list[dict[str, Any]] = section.data["listeners"]
    _tcp(section, target)
    _udp(section)
    listeners.extend(_sctp(section))
    _add_owners(section, listeners, owners)
    return section


def _listener(proto: str, entry: sockdiag.Entry) -> dict[str, Any]:
    return {
        "proto": proto,
        "family": rtnl.FAMILY_NUMBER[entry.family],
        "address": entry.address,
        "port": entry.port,
        "inode": entry.inode,
        "uid": entry.uid,
        "pid": None,
        "process": None,
        "unit": None,
        "backlog": entry.backlog if proto == "tcp" else None,
        "queue": entry.queue,
        "v6only": entry.v6only,
        "drops": entry.drops,
    }


def _tcp(section: Section, target: tuple[str, int] | None) -> None:
    states: Counter[str] = Counter()
    per_port: dict[int, Counter[int]] = {}
    waiting: Counter[tuple[str, int]] = Counter()
    listening: set[int] = set()
    if sockdiag.usable(sockdiag.TCP):
        for family in sockdiag.families():
            try:
                with netlink.Socket(netlink.SOCK_DIAG) as sock:
                    for entry in sockdiag.entries(sock, family, sockdiag.TCP, 1 << sockdiag.LISTEN, drops=True):
                        section.data["listeners"].append(_listener("tcp", entry))
                        listening.add(entry.port)
                        states["LISTEN"] += 1
            except OSError as error:
                section.gap(f"sockets.tcp{rtnl.FAMILY_NUMBER[family]}", f"sock_diag: {procfs.reason(error)}")
        for family in sockdiag.families():
            try:
                _count_diag(family, listening, per_port, waiting, states)
            except OSError as error:
                section.gap(f"sockets.tcp{rtnl.FAMILY_NUMBER[family]}", f"sock_diag: {procfs.reason(error)}")
    else:
        section.gap(
            "sockets.tcp.backlog", "tcp_diag is not loaded, and asking would load it: read from /proc, without backlog and v6only"
        )
        for family in sockdiag.families():
            try:
                listening.update(_listeners_proc(section, family))
            except OSError as error:
                section.gap(f"sockets.tcp{rtnl.FAMILY_NUMBER[family]}", procfs.reason(error))
                continue
            _count_proc(section, family, listening, per_port, waiting, states)
    section.data["states"]["tcp"] = dict(sorted(states.items()))
    section.data["ports"] = _ports(per_port, listening, target)
    section.data["syn_sent"] = [
        {"address": address, "port": port, "count": count} for (address, port), count in waiting.most_common(BUSIEST)
    ]


def _count_diag(
    family: int, listening: set[int], per_port: dict[int, Counter[int]], waiting: Counter[tuple[str, int]], states: Counter[str]
) -> None:
    numbers: Counter[int] = Counter()
    with netlink.Socket(netlink.SOCK_DIAG) as sock:
        wanted = sockdiag.ALL_STATES & ~(1 << sockdiag.LISTEN)
        for state, port, remote_port, body in sockdiag.states_and_ports(sock, family, wanted):
            numbers[state] += 1
            key = port if port in listening else remote_port
            counts = per_port.get(key)
            if counts is None:
                if len(per_port) >= _MAX_KEYS and key not in listening:
                    continue
                counts = per_port[key] = Counter()
            counts[state] += 1
            if state == sockdiag.SYN_SENT:
                peer = (sockdiag.remote_of(family, body), remote_port)
                if len(waiting) < _MAX_KEYS or peer in waiting:
                    waiting[peer] += 1
    for state, count in numbers.items():
        states[sockdiag.STATES.get(state, str(state))] += count


def _listeners_proc(section: Section, family: int) -> set[int]:
    ports = set()
    for entry in sockdiag.proc_entries(family, sockdiag.TCP):
        if entry.state == sockdiag.LISTEN:
            section.data["listeners"].append(_listener("tcp", entry))
            ports.add(entry.port)
    return ports


def _count_proc(
    section: Section,
    family: int,
    listening: set[int],
    per_port: dict[int, Counter[int]],
    waiting: Counter[tuple[str, int]],
    states: Counter[str],
) -> None:
    try:
        for entry in sockdiag.proc_entries(family, sockdiag.TCP):
            states[sockdiag.STATES.get(entry.state, str(entry.state))] += 1
            if entry.state == sockdiag.LISTEN:
                continue
            key = entry.port if entry.port in listening else entry.remote_port
            if key in per_port or len(per_port) < _MAX_KEYS or key in listening:
                per_port.setdefault(key, Counter())[entry.state] += 1
            peer = (entry.remote, entry.remote_port)
            if entry.state == sockdiag.SYN_SENT and (len(waiting) < _MAX_KEYS or peer in waiting):
                waiting[peer] += 1
    except OSError as error:
        section.gap(f"sockets.tcp{rtnl.FAMILY_NUMBER[family]}", procfs.reason(error))


def _ports(per_port: dict[int, Counter[int]], listening: set[int], target: tuple[str, int] | None) -> dict[str, dict[str, int]]:
    """Counts of the ports that listen (and have connections), of the target, and of the busiest."""
    wanted = {port for port in per_port if port in listening}
    if target is not None and target[0] == "tcp":
        wanted.add(target[1])
    busiest = sorted(per_port, key=lambda port: (-sum(per_port[port].values()), port))[:BUSIEST]
    wanted.update(busiest)
    shown: dict[str, dict[str, int]] = {}
    for port in sorted(wanted):
        names: Counter[str] = Counter()
        for state, count in per_port.get(port, Counter[int]()).items():
            names[sockdiag.STATES.get(state, str(state))] += count
        shown[f"tcp/{port}"] = dict(sorted(names.items()))
    return shown


def udp_sockets(section: Section) -> list[sockdiag.Entry]:
    """Every UDP socket of this network namespace, with its drops; gaps go to ``section``."""
    found: list[sockdiag.Entry] = []
    diag = sockdiag.usable(sockdiag.UDP)
    for family in sockdiag.families():
        try:
            if diag:
                with netlink.Socket(netlink.SOCK_DIAG) as sock:
                    found.extend(sockdiag.entries(sock, family, sockdiag.UDP, drops=True))
            else:
                found.extend(sockdiag.proc_entries(family, sockdiag.UDP))
        except OSError as error:
            section.gap(f"sockets.udp{rtnl.FAMILY_NUMBER[family]}", procfs.reason(error))
    return found


def _udp(section: Section) -> None:
    if not sockdiag.usable(sockdiag.UDP):
        section.gap("sockets.udp.v6only", "udp_diag is not loaded, and asking would load it: read from /proc, without v6only")
    drops: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for entry in udp_sockets(section):
        states["CLOSE" if entry.state == sockdiag.UDP_UNCONNECTED else "ESTABLISHED"] += 1
        if entry.drops:
            drops[f"udp/{entry.port}"] += entry.drops
        if entry.state == sockdiag.UDP_UNCONNECTED and entry.port and not entry.remote_port:
            section.data["listeners"].append(_listener("udp", entry))
    section.data["states"]["udp"] = dict(sorted(states.items()))
    section.data["udp_drops"] = dict(sorted(drops.items()))


def _sctp(section: Section) -> list[dict[str, Any]]:
    """Listeners of /proc/net/sctp/eps: ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS; SST 10 is listening."""
    content = procfs.text_or_none("/proc/net/sctp/eps")
    return [] if content is None else sctp_table(content)


def sctp_table(content: str) -> list[dict[str, Any]]:
    found = []
    for line in content.splitlines()[1:]:
        words = line.split()
        if len(words) < 9 or words[3] != str(sockdiag.LISTEN):
            continue
        port, uid, inode = (procfs.decimal(word) for word in words[5:8])
        if port is None or uid is None or inode is None:
            continue
        for address in words[8:]:
            found.append(
                {
                    "proto": "sctp",
                    "family": 6 if ":" in address else 4,
                    "address": address,
                    "port": port,
                    "inode": inode,
                    "uid": uid,
                    "pid": None,
                    "process": None,
                    "unit": None,
                    "backlog": None,
                    "queue": None,
                    "v6only": None,
                    "drops": None,
                }
            )
    return found


def _add_owners(section: Section, listeners: list[dict[str, Any]], owners: Owners | None) -> None:
    inodes = {listener["inode"] for listener in listeners if listener["inode"]}
    if not inodes:
        return
    gaps: list[Gap] = []
    if owners is not None:
        held = owners(inodes)
    else:
        from ansible_collections.netops.fleet.plugins.module_utils._evidence import fdcensus

        census = fdcensus.census(inodes, bpf=False)
        held = census.sockets
        gaps = census.gaps
    missing = 0
    for listener in listeners:
        owner = held.get(listener["inode"])
        if owner is None:
            missing += bool(listener["inode"])
            continue
        listener["pid"], listener["process"], listener["unit"] = owner.pid, owner.process, owner.unit
        listener["cgroup"] = owner.cgroup
    if missing:
        why = "no process seen that holds them (the kernel, another pid namespace, or not permitted)"
        # What the census could not see matters only when an owner is missing.
        section.gaps += gaps
        section.gap("sockets.process", f"{missing} of {len(listeners)} listeners: {why}")
