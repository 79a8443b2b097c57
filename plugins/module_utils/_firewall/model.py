# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One form for every packet-filter rule, whoever wrote it: nft, iptables-nft, iptables-legacy, ipset.

Words are nft's: ``ip saddr``, ``ip6 daddr``, ``tcp dport``, ``meta iifname``, ``ct state`` ... An iptables match is
translated into them when its meaning is known for certain; otherwise it becomes an :class:`Unknown`, which the walk
treats as "may match". Nothing is ever dropped on the way: an unread part is an Unknown, never an absent condition.

JSON shapes are given by ``to_dict``; ``from_dict`` reads them back. Defaults are left out to keep evidence small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Union

# Back ends. One host may hold rules in several; the kernel runs them all, by hook priority.
NFT = "nft"
IPTABLES_NFT = "iptables-nft"
IPTABLES_LEGACY = "iptables-legacy"
IPSET = "ipset"
BACKENDS = (NFT, IPTABLES_NFT, IPTABLES_LEGACY, IPSET)

#: A member of a value list. int (ports, marks, numbers), str (addresses, interface names, symbols such as
#: "established"), ["range", low, high], ["prefix", "10.0.0.0", 8], ["concat", element, element, ...].
#: An interface name that ends in "*" is a prefix match.
Element = Union[int, str, "list[Any]"]


@dataclass
class Verdict:
    """kind: accept, drop, reject, return, continue, jump, goto, queue, unknown. target: chain name of jump and goto.

    unknown: the rule ends with something not understood that may accept, drop or go on (a foreign iptables target).
    detail: how a reject answers ("tcp reset", "icmp port-unreachable"), the queue's number.
    """

    kind: str
    target: str | None = None
    detail: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return _slim({"kind": self.kind, "target": self.target, "detail": self.detail})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Verdict:
        return cls(data["kind"], data.get("target"), data.get("detail"))


@dataclass
class Match:
    """A condition whose meaning is known.

    left: what is looked at, in nft's words; a concatenation is joined with " . " ("ip saddr . tcp dport").
    op: "in" (equal to one of values), "not in", "<", ">", "<=", ">=",
        "bits" (left & any of values is not zero: ``ct state new``, ``tcp flags syn``), "not bits" (is zero),
        "any in" (one of the fields of ``left`` is one of values: multiport's ``--ports``), "not any in",
        "nomatch" (what decides in the ipset is a member with "nomatch": ``--return-nomatch``), "not nomatch".
    values: the elements; None when ``set`` names them. mask: ``left & mask`` is compared (``tcp flags & (fin|syn) == syn``).
    set: name of a named nft set of the rule's table (without "@"), or of an ipset when the rule is an iptables one.
    """

    left: str
    op: str
    values: list[Element] | None = None
    set: str | None = None
    mask: int | None = None

    def to_dict(self) -> dict[str, Any]:
        # Written out: there are tens of thousands of these in one evidence.
        data: dict[str, Any] = {"t": "match", "left": self.left, "op": self.op}
        if self.values is not None:
            data["values"] = self.values
        if self.set is not None:
            data["set"] = self.set
        if self.mask is not None:
            data["mask"] = self.mask
        return data


@dataclass
class VerdictMap:
    """``left vmap { key : verdict, ... }``; entries None when the named map ``map`` holds them."""

    left: str
    entries: list[tuple[Element, Verdict]] | None = None
    map: str | None = None

    def to_dict(self) -> dict[str, Any]:
        entries = None if self.entries is None else [[key, verdict.to_dict()] for key, verdict in self.entries]
        return _slim({"t": "vmap", "left": self.left, "entries": entries, "map": self.map})


@dataclass
class Action:
    """A statement that is no condition and no plain verdict.

    mark and ct mark: ``{value, mask}``: the new mark is ``old & ~mask ^ value``, mask 0xffffffff where it is left out; with
    ``from`` (another selector) it is ``old & ~mask ^ (from & from_mask) ^ xor``. snat, dnat, redirect, tproxy: ``{addr, port,
    flags}``, each a value or ``["range", low, high]``; ``{left, entries: [[key, value]]}`` or ``{left, map: name}`` where a map
    gives it, as it may give a mark (address and port as ["concat", address, port]); ``{expression}`` where it is computed.
    netmap: ``{to: prefix}``, the network that replaces that of the address.

    name: log, counter, mark, ct mark, notrack, snat, dnat, masquerade, redirect, tproxy, set update, dup, fwd, flow add,
    synproxy, classify, tcpmss, dscp ... args: what it says, JSON-able.
    terminal: rules behind it in the chain are not reached (NAT targets, tproxy, synproxy, fwd).
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    terminal: bool = False

    def to_dict(self) -> dict[str, Any]:
        return _slim({"t": "action", "name": self.name, "args": self.args or None, "terminal": self.terminal or None})


@dataclass
class Unknown:
    """A part that may match or not: unread, or without a static meaning (limit, quota, recent, string, bpf ...).

    text: as the admin would see it. why: "not static" or what was not understood.
    """

    text: str
    why: str = "not understood"

    def to_dict(self) -> dict[str, Any]:
        return {"t": "unknown", "text": self.text, "why": self.why}


Part = Union[Match, VerdictMap, Action, Unknown]


def part_from_dict(data: dict[str, Any]) -> Part:
    """Read back one part; raises KeyError or ValueError on another shape."""
    kind = data["t"]
    if kind == "match":
        return Match(data["left"], data["op"], data.get("values"), data.get("set"), data.get("mask"))
    if kind == "vmap":
        entries = data.get("entries")
        read = None if entries is None else [(key, Verdict.from_dict(verdict)) for key, verdict in entries]
        return VerdictMap(data["left"], read, data.get("map"))
    if kind == "action":
        return Action(data["name"], data.get("args") or {}, bool(data.get("terminal")))
    if kind == "unknown":
        return Unknown(data["text"], data.get("why", "not understood"))
    raise ValueError(f"rule part of kind {kind!r}")


@dataclass
class Rule:
    """One rule.

    family: ip, ip6, inet, arp, bridge, netdev (iptables back ends: ip or ip6). line: 1-based place in its chain.
    handle: the kernel's (nft and iptables-nft), None where there is none. parts: in the order they are evaluated.
    verdict: the last word, None for a rule that only acts. packets, bytes: None when the rule carries no counter,
    which is not "no hit". text: what the admin would see in ``nft list`` or ``iptables-save``. owner: see _safety/owners.
    """

    backend: str
    family: str
    table: str
    chain: str
    line: int
    text: str
    parts: list[Part] = field(default_factory=list)
    verdict: Verdict | None = None
    handle: int | None = None
    packets: int | None = None
    bytes: int | None = None
    comment: str | None = None
    owner: str = "user"

    def to_dict(self) -> dict[str, Any]:
        # Written out, as in Match.
        data: dict[str, Any] = {
            "backend": self.backend,
            "family": self.family,
            "table": self.table,
            "chain": self.chain,
            "line": self.line,
            "text": self.text,
            "owner": self.owner,
        }
        if self.parts:
            data["parts"] = [part.to_dict() for part in self.parts]
        if self.verdict is not None:
            data["verdict"] = self.verdict.to_dict()
        for name in ("handle", "packets", "bytes", "comment"):
            value = getattr(self, name)
            if value is not None:
                data[name] = value
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Rule:
        verdict = data.get("verdict")
        return cls(
            backend=data["backend"],
            family=data["family"],
            table=data["table"],
            chain=data["chain"],
            line=data["line"],
            text=data["text"],
            parts=[part_from_dict(part) for part in data.get("parts") or []],
            verdict=Verdict.from_dict(verdict) if verdict else None,
            handle=data.get("handle"),
            packets=data.get("packets"),
            bytes=data.get("bytes"),
            comment=data.get("comment"),
            owner=data.get("owner", "user"),
        )

    def where(self) -> str:
        """``nft inet filter input handle 7`` or ``iptables-legacy filter INPUT line 3``."""
        place = f"handle {self.handle}" if self.handle is not None and self.backend == NFT else f"line {self.line}"
        family = f"{self.family} " if self.backend == NFT or self.family == "ip6" else ""
        return f"{self.backend} {family}{self.table} {self.chain} {place}"


@dataclass
class Chain:
    """A chain. hook, priority and policy are None for one that is only jumped to. type: filter, nat, route.

    priority: the number the kernel sorts by (raw -300, mangle -150, dstnat -100, filter 0, security 50, srcnat 100).
    policy: accept or drop. devices: interfaces of an ingress or egress chain.
    """

    backend: str
    family: str
    table: str
    name: str
    hook: str | None = None
    priority: int | None = None
    policy: str | None = None
    type: str | None = None
    devices: list[str] = field(default_factory=list)
    handle: int | None = None
    packets: int | None = None
    owner: str = "user"

    def to_dict(self) -> dict[str, Any]:
        return _slim({**self.__dict__, "devices": self.devices or None})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Chain:
        return cls(**{**data, "devices": data.get("devices") or []})


@dataclass
class Set:
    """A named nft set or map, or an ipset. family: the table's (nft) or the set's (ipset: inet, inet6, or "" where it has none).

    type: what its keys are, in nft's or ipset's words ("ipv4_addr . inet_service", "hash:ip,port"). map: value type of an
    nft map. flags: interval, timeout, dynamic, constant. elements: None when not read (terse); members otherwise, an ipset
    "nomatch" member as ["nomatch", element]; a map's as ["pair", key, value]. count: members, None when not told.
    options: ipset header (hashsize, maxelem, timeout ...), nft size.
    """

    backend: str
    family: str
    table: str
    name: str
    type: str
    map: str | None = None
    flags: list[str] = field(default_factory=list)
    elements: list[Any] | None = None
    count: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    comment: str | None = None
    owner: str = "user"
    handle: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return _slim({**self.__dict__, "flags": self.flags or None, "options": self.options or None})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Set:
        return cls(**{**data, "flags": data.get("flags") or [], "options": data.get("options") or {}})


@dataclass
class BackendState:
    """Whether one back end could be read. status: ok, absent (the kernel has none of its rules), unread. why: for unread."""

    name: str
    status: str
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return _slim(dict(self.__dict__))


@dataclass
class Ruleset:
    """All rules of one network namespace. A back end that is "unread" makes every "accept" of the walk an "unknown"."""

    backends: list[BackendState] = field(default_factory=list)
    chains: list[Chain] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    sets: list[Set] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "backends": [state.to_dict() for state in self.backends],
            "chains": [chain.to_dict() for chain in self.chains],
            "rules": [rule.to_dict() for rule in self.rules],
            "sets": [one.to_dict() for one in self.sets],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Ruleset:
        return cls(
            [BackendState(**state) for state in data["backends"]],
            [Chain.from_dict(chain) for chain in data["chains"]],
            [Rule.from_dict(rule) for rule in data["rules"]],
            [Set.from_dict(one) for one in data["sets"]],
        )

    def merge(self, other: Ruleset) -> None:
        """Add what another reader found."""
        self.backends += other.backends
        self.chains += other.chains
        self.rules += other.rules
        self.sets += other.sets


def _slim(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None: evidence of 10,000 rules travels."""
    return {key: value for key, value in data.items() if value is not None}
