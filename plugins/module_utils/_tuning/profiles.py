# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What a host is for, turned into wanted kernel parameters, each with its reason. Pure: facts in, wants out.

Sizes and queues only rise: the floor is what the kernel had before the collection first touched it. Requirements T01-T06.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ansible_collections.netops.fleet.plugins.module_utils._tuning import bdp

NAMES = ("inference", "training", "gateway", "storage", "own")

_IP = "Documentation/networking/ip-sysctl.rst"
_NET = "Documentation/admin-guide/sysctl/net.rst"
_FS = "Documentation/admin-guide/sysctl/fs.rst"
_CT = "Documentation/networking/nf_conntrack-sysctl.rst"


class Use(NamedTuple):
    """What a profile assumes where nothing is declared. connections: held at once; flows: filling their window at once."""

    connections: int
    flows: int
    #: Seconds of silence after which a dead peer is looked for, pause and number of probes.
    keepalive: tuple[int, int, int]
    parts: tuple[str, ...] = ()


#: Groups of keys, beside the buffers: what a profile consists of. The functions of these names below make them.
PARTS = ("queues", "lifetimes", "path", "streaming", "tables", "files", "rails", "congestion")
_COMMON = ("queues", "lifetimes", "path", "tables", "files")

USES = {
    "inference": Use(10000, 64, (60, 10, 6), (*_COMMON, "streaming")),
    "training": Use(2000, 64, (600, 30, 5), (*_COMMON, "rails")),
    "gateway": Use(50000, 256, (60, 10, 6), (*_COMMON, "streaming", "congestion")),
    "storage": Use(5000, 128, (300, 30, 5), (*_COMMON, "congestion")),
    "own": Use(10000, 64, (7200, 75, 9)),
}


@dataclass
class Facts:
    """originals: key → value before the collection first touched it, None when this kernel lacks the key.

    link_mbit: fastest physical link that is up, None when no driver tells. memory: bytes. tcp_pressure: tcp_mem[1] in pages.
    congestion: available algorithms. qdisc: queueing disciplines known to be available, None when it cannot be told.
    conntrack: connection tracking is there (loaded or built in). parts, keepalive: of a profile of one's own; see Use.
    """

    originals: dict[str, str | None]
    memory: int
    page: int = 4096
    kernel: tuple[int, int] = (6, 1)
    link_mbit: float | None = None
    paths: list[bdp.Path] = field(default_factory=list)
    connections: int | None = None
    flows: int | None = None
    neighbours: int | None = None
    tcp_pressure: int | None = None
    congestion: list[str] = field(default_factory=list)
    qdisc: list[str] | None = None
    conntrack: bool = False
    parts: tuple[str, ...] = ()
    keepalive: tuple[int, int, int] | None = None


class Want(NamedTuple):
    """One wanted parameter. why: formula with numbers. source: where the reason is written. origin: profile or explicit."""

    name: str
    value: str
    why: str
    source: str
    origin: str = "profile"


class Wanted(NamedTuple):
    wants: list[Want]
    notes: list[str]


def make(profile: str, facts: Facts) -> Wanted:
    """All wants of a profile. Raises ValueError for an unknown one."""
    if profile not in USES:
        raise ValueError(f"profile {profile!r}: there are {', '.join(NAMES)}")
    maker = _Maker(profile, facts)
    maker.buffers()
    for part in PARTS:
        if part in maker.use.parts:
            getattr(maker, part)()
    return maker.wanted


def power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


class _Maker:
    def __init__(self, profile: str, facts: Facts) -> None:
        use = USES[profile]
        self.profile, self.facts = profile, facts
        self.use = use._replace(parts=facts.parts or use.parts, keepalive=facts.keepalive or use.keepalive)
        self.connections = facts.connections or self.use.connections
        self.flows = facts.flows or self.use.flows
        self.wanted = Wanted([], [])

    def have(self, name: str) -> bool:
        return self.facts.originals.get(name) is not None

    def put(self, name: str, value: int | str, why: str, source: str) -> None:
        self.wanted.wants.append(Want(name, str(value), why, source))

    def at_least(self, name: str, value: int, why: str, source: str) -> None:
        """Only raises. An original that is no number (a kernel that changed its form) is left to the plan's checks."""
        original = self.facts.originals.get(name)
        if original is not None and original.isdigit() and int(original) >= value:
            self.put(name, original, f"{why}; it was {original} already, not lowered", source)
        else:
            self.put(name, value, why, source)

    # --- T03

    def buffers(self) -> None:
        facts = self.facts
        if self.profile == "own" and not facts.paths:
            return
        memory = bdp.budget(facts.memory, facts.tcp_pressure, facts.page)
        for name, cap, send in (("tcp_rmem", "rmem_max", False), ("tcp_wmem", "wmem_max", True)):
            triple = _triple(facts.originals.get(f"net.ipv4.{name}"), (4096, 16384, 4 << 20) if send else (4096, 131072, 6 << 20))
            floor = bdp.floor_maximum(facts.kernel, facts.memory, send)
            found = bdp.plan(facts.paths, self.flows, self.connections, floor, triple[1], memory, triple[2])
            start = min(found.start, found.maximum)
            why = f"maximum: {found.why}; start: {start}" + (
                " as it was" if start == triple[1] else ", the nearest path's product"
            )
            self.put(f"net.ipv4.{name}", f"{triple[0]} {start} {found.maximum}", why, f"T03; {_IP}; RFC 7323")
            self.at_least(
                f"net.core.{cap}",
                found.maximum if facts.paths else 212992,
                f"as large as {name}'s maximum, for programs that set their buffers themselves (it does not bound {name})",
                f"T03; {_NET}",
            )
            self.wanted.notes.extend(f"net.ipv4.{name}: {note}" for note in found.notes)
        self.put("net.ipv4.tcp_moderate_rcvbuf", 1, "the kernel sizes receive buffers within tcp_rmem by itself", _IP)
        self.put("net.ipv4.tcp_window_scaling", 1, "without it no window is larger than 64 KB", f"{_IP}; RFC 7323")

    # --- T01

    def queues(self) -> None:
        self.at_least(
            "net.core.somaxconn",
            65535,
            "bounds the accept queue: min(backlog of listen(), somaxconn); a burst of connections waits instead of being dropped",
            f"T01; {_NET}; listen(2)",
        )
        syn = min(65536, max(8192, power_of_two(self.connections)))
        self.at_least(
            "net.ipv4.tcp_max_syn_backlog",
            syn,
            f"half-open handshakes before SYN cookies: {self.connections} connections expected, next power of two, 8192 to 65536",
            f"T01; {_IP}",
        )
        self.put("net.ipv4.tcp_syncookies", 1, "a full SYN queue answers with cookies instead of dropping", _IP)
        self.put(
            "net.ipv4.tcp_abort_on_overflow",
            0,
            "a full accept queue lets the client try again; 1 would reset connections in a short burst",
            f"T01; {_IP}",
        )
        mbit = self.facts.link_mbit
        if mbit:
            packets = round(mbit * 1e6 / 8 / 1500 * 0.002)
            value = min(65536, max(1000, power_of_two(packets)))
            why = f"2 ms of 1500-byte packets at {mbit:g} Mbit/s = {packets}, next power of two, 1000 to 65536"
        else:
            value, why = 4096, "the link's speed is not known: 4096 packets"
        self.at_least("net.core.netdev_max_backlog", value, why, f"T01; {_NET}")

    # --- T02, T06

    def lifetimes(self) -> None:
        self.put("net.ipv4.tcp_timestamps", 1, "tcp_tw_reuse and protection against old segments (PAWS) need it", "RFC 7323")
        self.put(
            "net.ipv4.tcp_tw_reuse",
            1,
            "new outgoing connections may take ports in TIME_WAIT after 1 s, safe with time stamps (2: loopback only)",
            f"T02; {_IP}",
        )
        self.put(
            "net.ipv4.tcp_fin_timeout",
            30,
            "orphaned connections wait 30 s, not 60, in FIN_WAIT_2 (it is not the length of TIME_WAIT)",
            f"T02; {_IP}",
        )
        idle, pause, probes = self.use.keepalive
        total = idle + pause * probes
        source = f"T06; {_IP}" if "streaming" in self.use.parts else _IP
        self.put(
            "net.ipv4.tcp_keepalive_time", idle, f"a dead peer is found after {idle} + {pause} * {probes} = {total} s", source
        )
        self.put("net.ipv4.tcp_keepalive_intvl", pause, "pause between keep-alive probes; see tcp_keepalive_time", source)
        self.put("net.ipv4.tcp_keepalive_probes", probes, "unanswered probes; see tcp_keepalive_time", source)
        buckets = power_of_two(max(65536, 4 * self.connections))
        self.at_least(
            "net.ipv4.tcp_max_tw_buckets",
            buckets,
            f"4 * {self.connections} connections, next power of two: beyond it TIME_WAIT is cut short",
            f"T02; {_IP}",
        )
        low, high = 32768, 60999
        if self.connections > (high - low + 1) // 2:
            now = [
                int(word) for word in (self.facts.originals.get("net.ipv4.ip_local_port_range") or "").split() if word.isdigit()
            ]
            self.put(
                "net.ipv4.ip_local_port_range",
                f"{min([10240, *now])} {max([65535, *now])}",
                f"{self.connections} connections to one address and port need as many ports; the default has {high - low + 1}",
                f"T02; {_IP}",
            )
            self.wanted.notes.append(
                "net.ipv4.ip_local_port_range: services that listen between 10240 and 32767 must be named in "
                "net.ipv4.ip_local_reserved_ports, else an outgoing connection may take their port while they restart"
            )

    # --- path

    def path(self) -> None:
        self.put("net.ipv4.tcp_sack", 1, "without it one lost packet costs a window", "RFC 2018")
        self.put(
            "net.ipv4.tcp_mtu_probing", 1, "finds a smaller packet size, only after a black hole was seen", f"RFC 4821; {_IP}"
        )
        self.put("net.ipv4.tcp_slow_start_after_idle", 0, "a kept-alive connection keeps its window between requests", _IP)
        self.put("net.ipv4.tcp_no_metrics_save", 1, "one bad connection does not slow the next to the same peer", f"ESnet; {_IP}")
        self.at_least(
            "net.core.optmem_max", 131072, "room for the notifications of zero-copy sends (SO_ZEROCOPY)", "T06; msg_zerocopy.rst"
        )

    def streaming(self) -> None:
        self.put(
            "net.ipv4.tcp_notsent_lowat",
            131072,
            "at most 128 KiB unsent per socket: less memory, fresher answers when streaming tokens",
            _IP,
        )

    # --- tables

    def tables(self) -> None:
        neighbours = self.facts.neighbours
        if neighbours is None:
            neighbours = 1024
            how = "1024 neighbours assumed"
        else:
            how = f"{neighbours} neighbours declared"
        high = max(4096, power_of_two(4 * neighbours))
        for family in ("ipv4", "ipv6"):
            base = f"net.{family}.neigh.default.gc_thresh"
            self.at_least(f"{base}1", high // 4, f"{how}: none is collected below a quarter of {high}", "arp(7)")
            self.at_least(f"{base}2", high // 2, f"{how}: collected after 5 s above half of {high}", "arp(7)")
            self.at_least(
                f"{base}3", high, f"{how}: 4 times that, a power of two, 4096 at least; beyond it packets are dropped", "arp(7)"
            )
        if not self.facts.conntrack:
            return
        entries = power_of_two(max(65536, 4 * self.connections))
        size = 400  # bytes of an entry with its extensions, rounded up
        fits = self.facts.memory // 50 // size
        why = f"4 * {self.connections} connections (with those in TIME_WAIT), a power of two, 65536 at least"
        if entries > fits:
            entries = 1 << max(16, fits.bit_length() - 1)
            why += f", bounded by 2 % of the memory: {entries} * {size} bytes"
        self.at_least("net.netfilter.nf_conntrack_max", entries, why, _CT)
        self.at_least(
            "net.netfilter.nf_conntrack_buckets", entries, "one hash bucket per connection, the kernel's own ratio", _CT
        )

    # --- T05

    def files(self) -> None:
        self.at_least(
            "fs.nr_open",
            max(1048576, power_of_two(4 * self.connections)),
            f"files of one process: 4 * {self.connections} connections, 1048576 at least; nofile cannot be larger",
            f"T05; {_FS}",
        )
        self.at_least(
            "fs.file-max",
            max(2097152, power_of_two(16 * self.connections)),
            f"files of all processes: 16 * {self.connections} connections, 2097152 at least",
            f"T05; {_FS}",
        )

    def rails(self) -> None:
        self.put(
            "net.ipv4.conf.all.rp_filter",
            2,
            "several links in one subnet: an answer may leave by another link than the question came (loose check)",
            f"RFC 3704; {_IP}",
        )
        self.put("net.ipv4.conf.all.arp_ignore", 1, "several links in one subnet: each answers ARP for its own address only", _IP)
        self.put("net.ipv4.conf.all.arp_announce", 2, "several links in one subnet: ARP asks with the link's own address", _IP)

    def congestion(self) -> None:
        """bbr and fq for paths with a round trip that loses packets; inside a data centre cubic is kept."""
        far = max((path.rtt_ms for path in self.facts.paths), default=0.0)
        if far < 10:
            return
        if "bbr" not in self.facts.congestion:
            self.wanted.notes.append(
                f"bbr would suit round trips of {far:g} ms, and this kernel does not offer it: congestion control is kept"
            )
            return
        self.put(
            "net.ipv4.tcp_congestion_control",
            "bbr",
            f"round trips up to {far:g} ms: bbr does not take a lost packet for a full path",
            _IP,
        )
        if self.facts.qdisc is not None and "fq" in self.facts.qdisc:
            self.put("net.core.default_qdisc", "fq", "paces bbr; for links made from now on", "tc-fq(8)")
        else:
            self.wanted.notes.append(
                "fq is not available on this kernel (or it cannot be told): bbr paces by itself, default_qdisc is kept"
            )


def _triple(value: str | None, default: tuple[int, int, int]) -> tuple[int, int, int]:
    words = (value or "").split()
    if len(words) == 3 and all(word.isdigit() for word in words):
        return int(words[0]), int(words[1]), int(words[2])
    return default


#: Every key that a profile may want: what the reader looks at.
def keys() -> list[str]:
    everything = Facts(
        _Any(), 1 << 36, link_mbit=100000, paths=[bdp.Path("far", 50, 100000)], connections=100000, neighbours=1000
    )
    everything.congestion, everything.qdisc, everything.conntrack = ["bbr"], ["fq"], True
    names: dict[str, None] = {}
    everything.parts = PARTS
    for want in make("own", everything).wants:
        names[want.name] = None
    return list(names)


class _Any(dict):  # type: ignore[type-arg]
    """Every key is there."""

    def get(self, _key: object, _default: object = None) -> str:
        return "0"
