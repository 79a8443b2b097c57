# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Packets lost, by layer, as differences over a window: NIC, driver, softnet, qdisc, netfilter, OVS, IP, TCP, UDP, socket, IPsec.

``begin`` takes the first reading, ``end`` the second; what lies between them is the caller's, so that other readers work
while the window runs. Totals since boot are never a finding: they are there so that a difference can be judged.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import ovs, rdma
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap, Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ethtool, netlink, procfs, rtnl, sockdiag

LAYERS = ("carrier", "rdma", "nic", "driver", "softnet", "qdisc", "netfilter", "ovs", "ip", "tcp", "udp", "socket", "ipsec")

_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_STATS64, _IFLA_CARRIER_CHANGES, _IFLA_INFO_KIND = 3, 18, 23, 35, 1
#: struct rtnl_link_stats64, in order; what is no loss is skipped below.
_LINK_COUNTERS = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "multicast",
    "collisions", "rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors",
    "rx_missed_errors", "tx_aborted_errors", "tx_carrier_errors", "tx_fifo_errors", "tx_heartbeat_errors",
    "tx_window_errors", "rx_compressed", "tx_compressed", "rx_nohandler", "rx_otherhost_dropped",
)  # fmt: skip
_NO_LOSS = frozenset(("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "multicast", "rx_compressed", "tx_compressed"))

#: Counters of drivers that tell of loss, by their names. Each driver has its own; these words are common to them.
_DRIVER = re.compile(
    r"drop|discard|err|miss|fifo|timeout|no_?buf|out_of_buf|no_?desc|overrun|overflow|crc|fcs|fail|stuck|rnr|symbol|fatal|link_down",
    re.IGNORECASE,
)
#: Words that contain one of those and tell of no loss.
_DRIVER_NOT = re.compile(r"interrupt|mission|buffer_size", re.IGNORECASE)

_TCA_KIND, _TCA_STATS2, _TCA_STATS_QUEUE = 1, 7, 3
_QUEUE = struct.Struct("=IIIII")  # qlen, backlog, drops, requeues, overlimits
#: These only add up what their children count.
_SUMMING_QDISCS = frozenset(("mq", "mqprio"))

_NETFILTER = (
    "drop",
    "early_drop",
    "insert_failed",
    "search_restart",
    "invalid",
    "error",
    "icmp_error",
    "clash_resolve",
    "chaintoolong",
)

_IP = frozenset(
    (
        "InHdrErrors", "InAddrErrors", "InUnknownProtos", "InDiscards", "OutDiscards", "OutNoRoutes", "ReasmTimeout",
        "ReasmFails", "FragFails",
    )
)  # fmt: skip
_IP_EXT = frozenset(("InNoRoutes", "InTruncatedPkts", "InCsumErrors", "ReasmOverlaps"))
_IP6 = frozenset(
    (
        "Ip6InHdrErrors", "Ip6InTooBigErrors", "Ip6InNoRoutes", "Ip6InAddrErrors", "Ip6InUnknownProtos",
        "Ip6InTruncatedPkts", "Ip6InDiscards", "Ip6OutDiscards", "Ip6OutNoRoutes", "Ip6ReasmTimeout", "Ip6ReasmFails",
        "Ip6FragFails",
    )
)  # fmt: skip
_TCP = frozenset(("AttemptFails", "EstabResets", "RetransSegs", "InErrs", "OutRsts", "InCsumErrors"))
_TCP_EXT = frozenset(
    (
        "ListenOverflows", "ListenDrops", "TCPBacklogDrop", "TCPRcvQDrop", "TCPZeroWindowDrop", "PFMemallocDrop",
        "PruneCalled", "RcvPruned", "OfoPruned", "TCPOFODrop", "TCPOFOQueue", "TCPRcvCollapsed", "TCPReqQFullDrop",
        "TCPReqQFullDoCookies", "SyncookiesSent", "SyncookiesFailed", "EmbryonicRsts", "LockDroppedIcmps",
        "OutOfWindowIcmps", "TCPDeferAcceptDrop", "TCPMinTTLDrop", "IPReversePathFilter", "TCPTimeWaitOverflow",
        "TCPAbortOnData", "TCPAbortOnClose", "TCPAbortOnMemory", "TCPAbortOnTimeout", "TCPAbortOnLinger",
        "TCPAbortFailed", "TCPMemoryPressures", "TCPTimeouts", "TCPLossProbes", "TCPSpuriousRTOs", "TCPLostRetransmit",
        "TCPSlowStartRetrans", "TCPFastRetrans", "TCPSynRetrans", "TCPRetransFail", "TCPMD5NotFound", "TCPMD5Unexpected",
        "TCPMD5Failure", "TCPAORequired", "TCPAOBad", "TCPAOKeyNotFound", "TCPAODroppedIcmps", "TCPChallengeACK",
        "PAWSActive", "PAWSEstab", "TSEcrRejected", "TCPWqueueTooBig", "TCPMigrateReqFailure",
    )
)  # fmt: skip
#: Counted among TCP's by the kernel, but a loss of IP.
_IP_OF_TCP_EXT = frozenset(("IPReversePathFilter",))
_UDP = frozenset(("NoPorts", "InErrors", "RcvbufErrors", "SndbufErrors", "InCsumErrors", "IgnoredMulti", "MemErrors"))

#: Levels, not counters: their difference may be negative without a reset.
_LEVELS = (" backlog_bytes", " qlen")


@dataclass
class Snapshot:
    """One reading. at: monotonic seconds. layers: {layer: {counter: total}}; a layer not read is not in it."""

    at: float
    layers: dict[str, dict[str, int]]
    gaps: list[Gap] = field(default_factory=list)
    out_segments: int | None = None


class Drops:
    """Two readings and their difference. Reads only; needs no privilege but for the driver's and conntrack's counters."""

    def begin(self) -> Snapshot:
        return _snapshot()

    def end(self, first: Snapshot) -> Section:
        """Data: ``{seconds, reset, out_segments, layers: {layer: {counter: {delta, total}}}}``.

        out_segments: TCP segments sent in the window, what retransmissions are held against; absent when not read.

        Only counters that are not zero now or were not before. delta null: the counter became smaller (link or driver
        reloaded, socket closed), or was not there at the first reading of a layer that could be read only later; ``reset`` says
        that there is such a one. Softnet counts the whole machine, everything else this network namespace.
        ``backlog_bytes`` and ``qlen`` of a qdisc are levels: their delta may be negative.
        """
        second = _snapshot()
        section = Section({"seconds": round(second.at - first.at, 3), "reset": False, "layers": {}})
        section.gaps = _unique(first.gaps + second.gaps)
        if first.out_segments is not None and second.out_segments is not None:
            section.data["out_segments"] = max(0, second.out_segments - first.out_segments)
        for layer in LAYERS:
            counters, reset = difference(first.layers.get(layer), second.layers.get(layer))
            if counters is not None:
                section.data["layers"][layer] = counters
            section.data["reset"] = section.data["reset"] or reset
        return section


def difference(
    before: dict[str, int] | None, after: dict[str, int] | None
) -> tuple[dict[str, dict[str, int | None]] | None, bool]:
    """({counter: {delta, total}}, was one reset); None for a layer that was not read the second time.

    A counter that is new in a layer read both times began at zero: a link, qdisc or socket made within the window.
    """
    if after is None:
        return None, False
    counters: dict[str, dict[str, int | None]] = {}
    reset = False
    for name in sorted(after):
        total = after[name]
        start = None if before is None else before.get(name, 0)
        if not total and not start:
            continue
        delta = None if start is None else total - start
        if delta is not None and delta < 0 and not name.endswith(_LEVELS):
            delta, reset = None, True
        counters[name] = {"delta": delta, "total": total}
    for name in before or {}:
        if name not in after and before and before[name] and not name.endswith(_LEVELS):
            # Its link, qdisc or socket is gone, and with it what it counted since the first reading.
            counters[name], reset = {"delta": None, "total": 0}, True
    return counters, reset


def _unique(gaps: list[Gap]) -> list[Gap]:
    seen: dict[tuple[str, str], Gap] = {}
    for gap in gaps:
        seen.setdefault((gap.what, gap.why), gap)
    return list(seen.values())


def _snapshot() -> Snapshot:
    snapshot = Snapshot(time.monotonic(), {})
    _links(snapshot)
    snapshot.layers["rdma"] = rdma.counters()
    _softnet(snapshot)
    _qdiscs(snapshot)
    _netfilter(snapshot)
    _ovs(snapshot)
    _protocols(snapshot)
    _sockets(snapshot)
    return snapshot


def _gap(snapshot: Snapshot, layer: str, why: str) -> None:
    snapshot.gaps.append(Gap(f"drops.{layer}", why))


def _links(snapshot: Snapshot) -> None:
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            answers = sock.dump(rtnl.GETLINK, rtnl.link_request())
    except OSError as error:
        _gap(snapshot, "nic", f"rtnetlink: {procfs.reason(error)}")
        _gap(snapshot, "driver", f"rtnetlink: {procfs.reason(error)}")
        return
    counters: dict[str, int] = {}
    carrier: dict[str, int] = {}
    hardware = []
    for _kind, body in answers:
        if len(body) < rtnl.IFINFO.size:
            continue
        found = netlink.attributes(body, rtnl.IFINFO.size)
        name = netlink.text_of(found.get(_IFLA_IFNAME, b""))
        carrier[f"{name} carrier_changes"] = netlink.number(found.get(_IFLA_CARRIER_CHANGES))
        stats = found.get(_IFLA_STATS64, b"")
        values = struct.unpack_from(f"={len(stats) // 8}Q", stats)
        for counter, value in zip(_LINK_COUNTERS, values):
            if value and counter not in _NO_LOSS:
                counters[f"{name} {counter}"] = value
        # A software link has a kind; only a driver of a device has counters of its own that matter here.
        if _IFLA_INFO_KIND not in netlink.attributes(found.get(_IFLA_LINKINFO, b"")) and name != "lo":
            hardware.append(name)
    snapshot.layers["nic"], snapshot.layers["carrier"] = counters, carrier
    _drivers(snapshot, hardware)


def _drivers(snapshot: Snapshot, links: list[str]) -> None:
    snapshot.layers["driver"] = counters = {}
    if not links:
        return
    try:
        tool = ethtool.Ethtool()
    except OSError as error:
        _gap(snapshot, "driver", f"ethtool ioctl: {procfs.reason(error)}")
        return
    with tool:
        for link in links:
            try:
                # Names are asked again each time: a driver that gains a queue moves all that follows.
                names = tool.counter_names(link)
                values = tool.counters(link, len(names)) if names else []
            except OSError as error:
                if error.errno != 95:  # EOPNOTSUPP: the driver has no counters of its own
                    _gap(snapshot, "driver", f"{link}: {procfs.reason(error)}")
                continue
            for name, value in zip(names, values):
                if value and is_loss(name):
                    counters[f"{link} {name}"] = value


def is_loss(name: str) -> bool:
    """Does a driver's counter tell of loss, by its name?"""
    return bool(_DRIVER.search(name)) and not _DRIVER_NOT.search(name)


def _softnet(snapshot: Snapshot) -> None:
    try:
        content = procfs.text("/proc/net/softnet_stat")
    except OSError as error:
        _gap(snapshot, "softnet", procfs.reason(error))
        return
    snapshot.layers["softnet"] = softnet_table(content)
    if not procfs.initial_network():
        _gap(snapshot, "softnet.scope", "these counters are the whole machine's, not this network namespace's")


def softnet_table(content: str) -> dict[str, int]:
    """``cpuN dropped|time_squeeze|flow_limit``. The CPU's number is the 13th column since 5.10, else the line's."""
    counters = {}
    for number, line in enumerate(content.splitlines()):
        columns = [procfs.decimal(word, 16) for word in line.split()]
        if len(columns) < 3:
            continue
        cpu = columns[12] if len(columns) > 12 and columns[12] is not None else number
        for name, column in (("dropped", 1), ("time_squeeze", 2), ("flow_limit", 10)):
            value = columns[column] if column < len(columns) else None
            if value:
                counters[f"cpu{cpu} {name}"] = value
    return counters


def _qdiscs(snapshot: Snapshot) -> None:
    try:
        names = rtnl.link_names()
        with netlink.Socket(netlink.ROUTE) as sock:
            answers = sock.dump(rtnl.GETQDISC, rtnl.qdisc_request())
    except OSError as error:
        _gap(snapshot, "qdisc", f"rtnetlink: {procfs.reason(error)}")
        return
    counters: dict[str, int] = {}
    for _kind, body in answers:
        if len(body) < rtnl.TC.size:
            continue
        _family, index, handle, parent, _info = rtnl.TC.unpack_from(body)
        found = netlink.attributes(body, rtnl.TC.size)
        kind = netlink.text_of(found.get(_TCA_KIND, b""))
        queue = netlink.attributes(found.get(_TCA_STATS2, b"")).get(_TCA_STATS_QUEUE, b"")
        if kind in _SUMMING_QDISCS or len(queue) < _QUEUE.size:
            continue
        qlen, backlog, drops, requeues, overlimits = _QUEUE.unpack_from(queue)
        name = f"{names.get(index, str(index))} {_qdisc_name(kind, handle, parent)}"
        for counter, value in (
            ("drops", drops),
            ("overlimits", overlimits),
            ("requeues", requeues),
            ("backlog_bytes", backlog),
            ("qlen", qlen),
        ):
            if value:
                counters[f"{name} {counter}"] = value
    snapshot.layers["qdisc"] = counters


def _qdisc_name(kind: str, handle: int, parent: int) -> str:
    """``htb 1:`` as tc prints it; a default qdisc has no handle, so its place under the parent names it."""
    if handle:
        return f"{kind} {handle >> 16:x}:"
    if parent == 0xFFFFFFFF:
        return f"{kind} root"
    return f"{kind} parent {parent >> 16:x}:{parent & 0xFFFF:x}"


def _netfilter(snapshot: Snapshot) -> None:
    try:
        content = procfs.text("/proc/net/stat/nf_conntrack")
    except FileNotFoundError:
        snapshot.layers["netfilter"] = {}
        return
    except OSError as error:
        _gap(snapshot, "netfilter", procfs.reason(error))
        return
    sums = procfs.per_cpu_hex(content)
    snapshot.layers["netfilter"] = {f"conntrack {name}": sums[name] for name in _NETFILTER if sums.get(name)}


def _ovs(snapshot: Snapshot) -> None:
    try:
        snapshot.layers["ovs"] = ovs.counters()
    except (OSError, ValueError) as error:
        why = procfs.reason(error) if isinstance(error, OSError) else str(error)[:200]
        _gap(snapshot, "ovs", f"ovs-vswitchd: {why}")


def _protocols(snapshot: Snapshot) -> None:
    ip: dict[str, int] = {}
    tcp: dict[str, int] = {}
    udp: dict[str, int] = {}
    read = False
    try:
        tables = procfs.paired_tables(procfs.text("/proc/net/snmp"))
        _take(ip, tables.get("Ip", {}), _IP)
        _take(tcp, tables.get("Tcp", {}), _TCP)
        snapshot.out_segments = tables.get("Tcp", {}).get("OutSegs")
        _take(udp, tables.get("Udp", {}), _UDP)
        _take(udp, tables.get("UdpLite", {}), _UDP, "UdpLite")
        read = True
    except OSError as error:
        for layer in ("ip", "tcp", "udp"):
            _gap(snapshot, layer, procfs.reason(error))
    try:
        tables = procfs.paired_tables(procfs.text("/proc/net/netstat"))
        extended = tables.get("TcpExt", {})
        _take(ip, tables.get("IpExt", {}), _IP_EXT)
        _take(ip, extended, _IP_OF_TCP_EXT)
        _take(tcp, extended, _TCP_EXT - _IP_OF_TCP_EXT)
    except OSError as error:
        _gap(snapshot, "tcp", procfs.reason(error))
        _gap(snapshot, "ip", procfs.reason(error))
    if procfs.has_ipv6():
        try:
            table = procfs.flat_table(procfs.text("/proc/net/snmp6"))
            _take(ip, table, _IP6)
            _take(udp, table, frozenset(f"Udp6{name}" for name in _UDP))
        except OSError as error:
            _gap(snapshot, "ip", procfs.reason(error))
            _gap(snapshot, "udp", procfs.reason(error))
    ipsec = procfs.text_or_none("/proc/net/xfrm_stat")
    if ipsec is not None:
        snapshot.layers["ipsec"] = {name: value for name, value in procfs.flat_table(ipsec).items() if value}
    if read:
        snapshot.layers.update(ip=ip, tcp=tcp, udp=udp)


def _take(into: dict[str, int], table: dict[str, int], names: frozenset[str], prefix: str = "") -> None:
    for name in names:
        if table.get(name):
            into[prefix + name] = table[name]


def _sockets(snapshot: Snapshot) -> None:
    """Drops at TCP listeners (accept queue full, filter) and at UDP sockets (receive buffer full), by address and port."""
    section = Section(None)
    counters: Counter[str] = Counter()
    from ansible_collections.netops.fleet.plugins.module_utils._evidence import sockets

    for entry in sockets.udp_sockets(section):
        if entry.drops:
            counters[_socket_name("udp", entry)] += entry.drops
    if sockdiag.usable(sockdiag.TCP):
        for family in sockdiag.families():
            try:
                with netlink.Socket(netlink.SOCK_DIAG) as sock:
                    for entry in sockdiag.entries(sock, family, sockdiag.TCP, 1 << sockdiag.LISTEN, drops=True):
                        if entry.drops:
                            counters[_socket_name("tcp", entry)] += entry.drops
            except OSError as error:
                section.gap("sockets.tcp", f"sock_diag: {procfs.reason(error)}")
    else:
        section.gap("sockets.tcp", "tcp_diag is not loaded, and asking would load it: drops of each listener are not known")
    for gap in section.gaps:
        _gap(snapshot, "socket", gap.why)
    snapshot.layers["socket"] = dict(counters)


def _socket_name(proto: str, entry: sockdiag.Entry) -> str:
    address = f"[{entry.address}]" if entry.family == socket.AF_INET6 else entry.address
    return f"{proto} {address}:{entry.port} drops"


def report(section: Section) -> dict[str, Any]:
    """Only what moved: {layer: {counter: delta}}."""
    layers: dict[str, Any] = section.data["layers"]
    return {
        layer: moved
        for layer, counters in layers.items()
        if (moved := {name: value["delta"] for name, value in counters.items() if value["delta"]})
    }
