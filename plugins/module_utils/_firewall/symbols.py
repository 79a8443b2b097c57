# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Words of rule listings and what they stand for: nft's selectors, their kinds of value, names for numbers.

What is a number and what a symbol in :mod:`model` is settled here: ports, protocols, ICMP types and codes, DSCP, marks, TCP
flags and ARP operations are numbers; addresses, interfaces, ``ct state``, ``ct status``, ``meta pkttype``, ``fib`` results,
``meta protocol``/``ether type`` of well-known protocols and ``meta nfproto`` are words.
Sources: nft(8), iana.org protocol and ICMP registries, include/uapi/linux/in.h.
"""

from __future__ import annotations

import socket
from typing import Any, Union

Scalar = Union[int, str]


class OddError(ValueError):
    """Words that are not understood. at: index of the first token of the clause."""


PROTOCOLS = {
    "ip": 0,
    "hopopt": 0,
    "icmp": 1,
    "igmp": 2,
    "ipencap": 4,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "eigrp": 88,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
    "mobility-header": 135,
    "ipv6-mh": 135,
    "udplite": 136,
    "mptcp": 262,
}
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "ece": 64, "cwr": 128}
ICMP = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
ICMPV6 = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "mld-listener-reduction": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "router-renumbering": 138,
    "ind-neighbor-solicit": 141,
    "ind-neighbor-advert": 142,
    "mld2-listener-report": 143,
}
ICMP_CODES = {
    "net-unreachable": 0,
    "host-unreachable": 1,
    "prot-unreachable": 2,
    "port-unreachable": 3,
    "frag-needed": 4,
    "net-prohibited": 9,
    "host-prohibited": 10,
    "admin-prohibited": 13,
}
ICMPV6_CODES = {
    "no-route": 0,
    "admin-prohibited": 1,
    "addr-unreachable": 3,
    "port-unreachable": 4,
    "policy-fail": 5,
    "reject-route": 6,
}
DSCP = {
    "be": 0,
    "df": 0,
    "lephb": 1,
    "cs0": 0,
    **{f"cs{n}": n * 8 for n in range(1, 8)},
    **{f"af{c}{d}": c * 8 + d * 2 for c in range(1, 5) for d in range(1, 4)},
    "va": 44,
    "ef": 46,
}
ECN = {"not-ect": 0, "ect1": 1, "ect0": 2, "ce": 3}
ARP_OPERATIONS = {"request": 1, "reply": 2, "rrequest": 3, "rreply": 4, "inrequest": 8, "inreply": 9, "nak": 10}
ETHER_TYPES = {"ip": "ip", "ip6": "ip6", "arp": "arp", "vlan": "vlan", "8021q": "vlan", "8021ad": "8021ad"}
ETHER_NUMBERS: dict[Any, str] = {0x0800: "ip", 0x86DD: "ip6", 0x0806: "arp", 0x8100: "vlan", 0x88A8: "8021ad"}
PKTTYPES = {"unicast": "host"}

#: Symbol tables of the numeric kinds.
_TABLES: dict[str, dict[str, int]] = {
    "proto": PROTOCOLS,
    "tcpflags": TCP_FLAGS,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
    "icmpcode": ICMP_CODES,
    "icmpv6code": ICMPV6_CODES,
    "dscp": DSCP,
    "ecn": ECN,
    "arpop": ARP_OPERATIONS,
    "int": {},
    "port": {},
}
NUMERIC = frozenset(_TABLES)
#: Bitmask types: a bare value means "has one of these bits".
FLAG_KINDS = frozenset({"state", "status", "tcpflags"})
#: What these look at changes while nothing of the packet does.
DYNAMIC = "dynamic"

#: first word -> second word -> (selector of the model, kind of value)
FIELDS: dict[str, dict[str, tuple[str, str]]] = {}
#: selectors of one word
SINGLE: dict[str, tuple[str, str]] = {}


def _add(first: str, kind: str, words: str) -> None:
    group = FIELDS.setdefault(first, {})
    for word in words.split():
        group[word] = (f"{first} {word}", kind)


for _name in ("ip", "ip6"):
    _add(_name, "addr", "saddr daddr")
    _add(_name, "dscp", "dscp")
    _add(_name, "ecn", "ecn")
    _add(_name, "int", "length version")
_add("ip", "proto", "protocol")
_add("ip", "int", "ttl id hdrlength frag-off checksum")
_add("ip6", "proto", "nexthdr")
_add("ip6", "int", "hoplimit flowlabel")
for _name in ("tcp", "udp", "udplite", "sctp", "dccp", "th"):
    _add(_name, "port", "sport dport")
    _add(_name, "int", "checksum")
_add("tcp", "int", "sequence ackseq doff window urgptr reserved")
_add("tcp", "tcpflags", "flags")
_add("udp", "int", "length")
_add("udplite", "int", "csumcov")
_add("sctp", "int", "vtag")
_add("icmp", "icmp", "type")
_add("icmp", "icmpcode", "code")
_add("icmp", "int", "checksum id sequence mtu")
_add("icmpv6", "icmpv6", "type")
_add("icmpv6", "icmpv6code", "code")
_add("icmpv6", "int", "checksum id sequence mtu max-delay parameter-problem")
_add("esp", "int", "spi sequence")
_add("ah", "int", "spi sequence hdrlength reserved")
_add("comp", "int", "cpi flags")
_add("ether", "ether", "saddr daddr")
_add("ether", "etype", "type")
_add("vlan", "int", "id pcp dei cfi")
_add("vlan", "etype", "type")
_add("arp", "arpop", "operation")
_add("arp", "int", "htype hlen plen")
_add("arp", "etype", "ptype")
_add("meta", "proto", "l4proto")
_add("meta", "word", "nfproto iiftype oiftype ibrname obrname iifkind oifkind sdifname bri_iifname bri_oifname")
_add("meta", "etype", "protocol")
_add("meta", "int", "mark length cpu cgroup skuid skgid nftrace secpath rtclassid iifgroup oifgroup ibrpvid")
_add("meta", "ifname", "iifname oifname")
_add("meta", "ifindex", "iif oif sdif")
_add("meta", "word", "priority")
_add("meta", "pkttype", "pkttype")
_add("meta", DYNAMIC, "time day hour random")
_add("ct", "state", "state")
_add("ct", "status", "status")
_add("ct", "word", "direction helper l3proto label")
_add("ct", "proto", "protocol")
_add("ct", "int", "mark zone id secmark")
_add("ct", DYNAMIC, "expiration bytes packets avgpkt")
_add("rt", "word", "classid mtu")
_add("socket", "int", "transparent mark wildcard")
_add("ipsec", "word", "in out")
for _word in ("iifname", "oifname", "iif", "oif", "iifgroup", "oifgroup", "iiftype", "oiftype", "skuid", "skgid", "mark"):
    SINGLE[_word] = FIELDS["meta"][_word]
FIELDS["meta"]["ibriport"] = ("meta ibrname", "word")
FIELDS["meta"]["obriport"] = ("meta obrname", "word")
_CT_DIRECTED = {
    "saddr": "addr",
    "daddr": "addr",
    "ip saddr": "addr",
    "ip daddr": "addr",
    "ip6 saddr": "addr",
    "ip6 daddr": "addr",
    "proto-src": "port",
    "proto-dst": "port",
    "protocol": "proto",
    "l3proto": "word",
    "zone": "int",
    "bytes": DYNAMIC,
    "packets": DYNAMIC,
    "avgpkt": DYNAMIC,
}

#: What the elements of a named set's type are.
TYPE_KINDS = {
    "ipv4_addr": "addr",
    "ipv6_addr": "addr",
    "ether_addr": "ether",
    "inet_service": "port",
    "inet_proto": "proto",
    "mark": "int",
    "integer": "int",
    "ifname": "ifname",
    "iface_index": "ifindex",
    "icmp_type": "icmp",
    "icmpv6_type": "icmpv6",
    "icmp_code": "icmpcode",
    "icmpv6_code": "icmpv6code",
    "dscp": "dscp",
    "ether_type": "etype",
    "pkt_type": "pkttype",
    "uid": "int",
    "gid": "int",
    "tcp_flag": "tcpflags",
    "verdict": "verdict",
}


def ct_directed(direction: str, key: str) -> tuple[str, str] | None:
    """``ct original ip saddr`` and the like."""
    kind = _CT_DIRECTED.get(key)
    return None if kind is None or direction not in ("original", "reply") else (f"ct {direction} {key}", kind)


def integer(text: Any) -> int:
    """A number as listings write it; raises OddError."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    try:
        return int(str(text), 0) if not str(text).isdigit() else int(text)
    except ValueError:
        raise OddError(f"{text!r} is no number") from None


def address(text: Any) -> int:
    """An IPv4 or IPv6 address as a number; raises OddError."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text), "big")
    except (OSError, TypeError, ValueError):
        raise OddError(f"{text!r} is no address") from None


def protocol(text: Any) -> int:
    """A protocol's number; raises OddError."""
    if isinstance(text, str):
        number = PROTOCOLS.get(text)
        if number is not None:
            return number
        if not text.isdigit():
            try:
                return socket.getprotobyname(text)
            except (OSError, ValueError):
                raise OddError(f"protocol {text!r} has no known number") from None
    return integer(text)


def scalar(kind: str, raw: Any) -> Scalar:
    """One value of a kind, from a word of a text listing or a JSON scalar; raises OddError."""
    if kind in NUMERIC:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
        if not isinstance(raw, str):
            raise OddError(f"{raw!r} for {kind}")
        if raw.isdigit():
            return int(raw)
        number = _TABLES[kind].get(raw)
        if number is not None:
            return number
        return protocol(raw) if kind == "proto" else integer(raw)
    if isinstance(raw, bool) or not isinstance(raw, (str, int)):
        raise OddError(f"{raw!r} for {kind}")
    return _named(kind, raw)


def _named(kind: str, raw: str | int) -> Scalar:
    """A value of a kind that is no number."""
    if isinstance(raw, str):
        if len(raw) > 1 and raw[0] == raw[-1] == '"':
            raw = raw[1:-1]
        if not raw:
            raise OddError("an empty word")
    if kind == "addr":
        if not isinstance(raw, str) or not (raw[0] in "0123456789:" or (":" in raw and raw[0] in "abcdefABCDEF")):
            raise OddError(f"{raw!r} is no address")
        return raw
    if kind == "etype":
        if isinstance(raw, int):
            return ETHER_NUMBERS.get(raw, raw)
        return ETHER_TYPES[raw] if raw in ETHER_TYPES else _named("etype", integer(raw))
    if kind == "pkttype":
        return PKTTYPES[str(raw)] if raw in PKTTYPES else str(raw)
    if kind in ("state", "status") and not (isinstance(raw, str) and raw.replace("-", "").isalpha()):
        raise OddError(f"{raw!r} for {kind}")
    return raw


def everything(left: str, kind: str) -> Any:
    """The element that holds every value, for a catch-all (``*``); raises OddError for kinds without one."""
    if kind == "addr":
        return ["prefix", "::" if "6" in left else "0.0.0.0", 0]
    if kind == "port":
        return ["range", 0, 65535]
    if kind == "ifname":
        return "*"
    if kind in NUMERIC:
        return ["range", 0, 0xFFFFFFFF]
    raise OddError("a catch-all of this type")


def text_element(kind: str, word: str) -> Any:
    """An element as text listings write it: value, prefix or range; raises OddError."""
    if kind == "addr":
        if "/" in word:
            address, _slash, length = word.partition("/")
            return ["prefix", scalar(kind, address), integer(length)]
        if "-" in word:
            low, _dash, high = word.partition("-")
            return ["range", scalar(kind, low), scalar(kind, high)]
        return scalar(kind, word)
    if kind in NUMERIC and "-" in word and word not in _TABLES[kind]:
        low, _dash, high = word.partition("-")
        return ["range", scalar(kind, low), scalar(kind, high)]
    return scalar(kind, word)
