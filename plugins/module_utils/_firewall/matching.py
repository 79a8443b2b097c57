# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Does a rule's part match a packet? True, False, or None: it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._firewall import iptables_parts, model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.elements import (
    LINEAR,
    Answer,
    Index,
    Nested,
    OnInterfaces,
    any_of,
    bounds_of,
    concat_matches,
    element_matches,
    negate,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import (
    ABSENT,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Packet,
    field,
    fields_of,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.symbols import OddError

#: Protocols whose ports an ipset knows.
_IPSET_PORTS = (6, 17, 132, 136)


class Sets:
    """Membership of the named sets of a ruleset, each indexed once."""

    def __init__(self, sets: list[model.Set]) -> None:
        self._nft = {(one.family, one.table, one.name): one for one in sets if one.backend == model.NFT}
        self._ipset = {one.name: one for one in sets if one.backend == model.IPSET}
        self._indexes: dict[tuple[int, str], Index | Nested | OnInterfaces] = {}
        self._anonymous: dict[tuple[int, str], tuple[list[Any], Index]] = {}

    def find(self, rule: model.Rule, name: str) -> model.Set | None:
        if rule.backend in (model.IPTABLES_NFT, model.IPTABLES_LEGACY):
            return self._ipset.get(name)
        return self._nft.get((rule.family, rule.table, name))

    def contains(self, rule: model.Rule, name: str, left: str, packet: Packet, nomatch: bool = False) -> Answer:
        """None when the set was not read, is not known, or the packet's field is not known. nomatch: see model.Match."""
        found = self.find(rule, name)
        if found is None or found.elements is None:
            return None
        if found.backend == model.IPSET:
            return self._in_ipset(found, left, packet, 0, nomatch)
        index = self._indexes.get((id(found), left))
        if index is None:
            index = self._indexes[id(found), left] = Index(left, found.elements)
        return index.find(packet)[0] if isinstance(index, Index) else None

    def _in_ipset(self, found: model.Set, left: str, packet: Packet, depth: int, nomatch: bool) -> Answer:
        if left[:6] == "ipset ":
            return self._in_list(found, left[6:], packet, depth, nomatch)
        if packet.touched is None or (model.IPSET, "", found.name) in packet.touched:
            return None  # a rule before this one changed it for this very packet
        if found.family and found.family != ("inet" if packet.family == 4 else "inet6"):
            return False
        if found.elements is None:
            return None
        if "th " in left and packet.proto not in ((TCP, UDP) if found.type == "bitmap:port" else _IPSET_PORTS):
            if packet.proto not in (ICMP, ICMPV6) or found.type == "bitmap:port":
                return False
            left = left.replace("th sport", "ipset icmp").replace("th dport", "ipset icmp")  # its type and code
        index = self._indexes.get((id(found), left))
        if index is None:
            elements = _with_netmask(found)
            if elements is None:
                return None
            kind = OnInterfaces if found.type == "hash:net,iface" else Nested
            index = self._indexes[id(found), left] = kind(left, elements)
        # The kernel asks this of types with networks only; of others it is the plain question.
        return None if isinstance(index, Index) else index.contains(packet, nomatch and "net" in found.type)

    def _in_list(self, found: model.Set, sides: str, packet: Packet, depth: int, nomatch: bool) -> Answer:
        """A list:set: each member set by its own type; one with more dimensions than the rule has flags never matches."""
        if found.elements is None or depth > 8:
            return None
        answers: list[Answer] = []
        for name in found.elements:
            member = self._ipset.get(name) if isinstance(name, str) else None
            if member is None:
                answers.append(None)
                continue
            if member.type.partition(":")[2].count(",") > sides.count(","):
                answers.append(False)
                continue
            try:
                left = iptables_parts.set_left(member.type, sides, "ip6" if packet.family == 6 else "ip")
            except OddError:
                answers.append(None)
                continue
            answers.append(self._in_ipset(member, left, packet, depth + 1, nomatch))
        return any_of(answers)

    def mapped(self, part: model.VerdictMap, entries: list[tuple[Any, model.Verdict]], packet: Packet) -> tuple[Answer, int]:
        """(True, which entry), (False, -1), or (None, -1)."""
        return self._index_of(part.left, entries, lambda: [key for key, _verdict in entries]).find(packet)

    def value(self, left: str, entries: list[list[Any]], packet: Packet) -> tuple[Answer, int]:
        """As ``mapped``, of a map that gives values."""
        return self._index_of(left, entries, lambda: [one[0] for one in entries]).find(packet)

    def anonymous(self, match: model.Match, values: list[Any], packet: Packet) -> Answer:
        return self._index_of(match.left, values, lambda: values).find(packet)[0]

    def _index_of(self, left: str, owner: list[Any], values: Callable[[], list[Any]]) -> Index:
        """owner: the list that the values are of. It is kept: another list may get the place in memory of one that is gone."""
        known = self._anonymous.get((id(owner), left))
        if known is None:
            known = self._anonymous[id(owner), left] = owner, Index(left, values())
        return known[1]


def _with_netmask(found: model.Set) -> list[Any] | None:
    """Members as the kernel compares them: a set with ``netmask`` holds networks and shows addresses."""
    elements = found.elements
    if elements is None:
        return None
    mask = found.options.get("netmask")
    if mask is None and "bitmask" not in found.options:
        return elements
    if not str(mask).isdigit():
        return None
    return [_masked(one, int(str(mask))) for one in elements]


def _masked(element: Any, length: int) -> Any:
    if isinstance(element, str) and (":" in element or element.count(".") == 3):
        return ["prefix", element, length]
    if isinstance(element, list) and element[:1] in (["concat"], ["nomatch"]):
        return [element[0], _masked(element[1], length), *element[2:]]
    return element


def matches(match: model.Match, rule: model.Rule, packet: Packet, sets: Sets) -> Answer:
    """Does this condition hold for the packet?"""
    left = match.left
    if match.set is not None:
        nomatch = match.op in ("nomatch", "not nomatch")
        answer = sets.contains(rule, match.set, left, packet, nomatch) if match.mask is None else None
        if rule.backend == model.NFT:
            if _missing(left, packet):
                return False
            if packet.touched is None or (rule.family, rule.table, match.set) in packet.touched:
                return None  # a rule before this one changed it for this very packet
        return negate_if(match.op, answer)
    values = match.values or []
    if match.op in ("any in", "not any in"):
        # Of the states and the status of a connection one bit is enough.
        each = (model.Match(one, "bits" if one.startswith("ct ") else "in", values) for one in fields_of(left))
        return negate_if(match.op, any_of(matches(one, rule, packet, sets) for one in each))
    if len(fields_of(left)) > 1:
        if _missing(left, packet):
            return False
        if len(values) > LINEAR and match.values is not None:
            return negate_if(match.op, sets.anonymous(match, match.values, packet))
        return negate_if(match.op, any_of(concat_matches(left, one, packet) for one in values))
    if left == "ct status":
        return _status(match, values, packet)
    value = field(packet, left)
    if value is ABSENT:
        # nft puts a protocol condition of its own before a payload field: without the field the rule ends here.
        # iptables' owner match without a socket is what its negation says.
        return rule.backend != model.NFT and match.op == "not in" and left in ("meta skuid", "meta skgid")
    if value is None:
        if left != "ip frag-off" or match.mask is None or match.mask & 0x4000:
            return None
        value = 0  # a whole packet: no offset, no more fragments
    if match.mask is not None:
        if not isinstance(value, int):
            return None
        value &= match.mask
    if match.op in ("in", "not in"):
        if len(values) > LINEAR and match.mask is None and match.values is not None:
            return negate_if(match.op, sets.anonymous(match, match.values, packet))
        return negate_if(match.op, any_of(element_matches(left, one, value) for one in values))
    if match.op in ("bits", "not bits"):
        return negate_if(match.op, any_of(_bit(one, value) for one in values))
    if match.op in ("<", ">", "<=", ">=") and isinstance(value, int) and values:
        bounds = bounds_of(left, values[0])
        if bounds is None:
            return None
        limit = bounds[0]
        return bool({"<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit}[match.op])
    return None


def _status(match: model.Match, values: list[Any], packet: Packet) -> Answer:
    """``ct status``: several bits at once."""
    if packet.ct_state in ("invalid", "untracked"):
        return False
    if packet.ct_status is None or packet.ct_state is None:
        return None
    if match.op in ("bits", "not bits"):
        return negate_if(match.op, bool(packet.ct_status & set(values)))
    if match.op in ("in", "not in") and all(isinstance(one, str) for one in values):
        # The whole value is compared. A mapped connection has more bits than its name; a confirmed one may have.
        if packet.ct_status == {"confirmed"} and "confirmed" in values:
            return None
        return negate_if(match.op, False)
    return None


def _missing(left: str, packet: Packet) -> bool:
    return any(field(packet, name) is ABSENT for name in fields_of(left))


def negate_if(operator: str, answer: Answer) -> Answer:
    return negate(answer) if operator.startswith("not") else answer


def _bit(element: Any, value: object) -> Answer:
    """``left & element`` is not zero. States of a connection are names: one is set at a time."""
    if isinstance(element, int) and isinstance(value, int):
        return bool(value & element)
    if isinstance(element, str) and isinstance(value, str):
        return element == value
    return None
