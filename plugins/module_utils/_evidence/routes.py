# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Routes of all tables and the rules that choose between the tables."""

from __future__ import annotations

import socket
import struct
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, procfs, rtnl

#: Routes kept. Beyond it only those without a gateway, and default routes, are kept, up to twice as many.
LIMIT = 20000
#: Routes looked at in all: a host with the whole internet's table is not read to its end.
SCAN_LIMIT = 500000

_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS = 1, 2, 3, 4, 5, 6, 7, 8
_RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA, _RTA_ENCAP_TYPE, _RTA_NH_ID = 9, 15, 18, 21, 30
_RTAX_MTU = 2
_RTM_F_CLONED = 0x200
_FLAGS = ((0x01, "dead"), (0x02, "pervasive"), (0x04, "onlink"), (0x08, "offload"), (0x10, "linkdown"), (0x20, "unresolved"))
_NHA_ID, _NHA_GROUP, _NHA_BLACKHOLE, _NHA_OIF, _NHA_GATEWAY = 1, 2, 4, 5, 6

_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY, _FRA_FWMARK, _FRA_SUPPRESS_PREFIXLEN = 1, 2, 3, 4, 6, 10, 14
_FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME, _FRA_L3MDEV, _FRA_UID_RANGE, _FRA_IP_PROTO = 15, 16, 17, 19, 20, 22
_FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 23, 24
_FIB_RULE_INVERT = 0x2
_SIOCGIFMTU = 0x8921
_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


def read(limit: int = LIMIT) -> Section:
    """Routes of IPv4 and IPv6, all tables.

    Data: list of ``{family, table, type, dst, via, dev, prefsrc, metric, scope, proto, flags, nexthops, mtu}``; ``tos``,
    ``src``, ``nexthop_id`` and ``encap`` only where set. table: number (254 main, 255 local, 253 default). dst: ``default``
    or ``address/length``. nexthops: ``[{via, dev, weight, flags}]``, empty for a route with one next hop. mtu: null when not set.
    """
    section = Section([])
    try:
        names = rtnl.link_names()
    except OSError as error:
        section.gap("routes", f"rtnetlink: {procfs.reason(error)}")
        return section
    for family in (socket.AF_INET, socket.AF_INET6):
        if family == socket.AF_INET6 and not procfs.has_ipv6():
            continue
        _read_family(section, family, names, limit)
    if any("nexthop_id" in route and not (route["nexthops"] or route["dev"]) for route in section.data):
        _fill_nexthops(section, names)
    return section


def lookup(address: str, source: str | None = None) -> dict[str, Any]:
    """How a packet to ``address`` would leave, asked of the kernel; nothing is sent.

    ``{type, dev, via, prefsrc, link_mtu}``; ``{error: text}`` where the kernel has no way. Raises ValueError for no address.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    asked: list[tuple[int, netlink.AttributeValue]] = []
    try:
        wanted = socket.inet_pton(family, address)
        asked.append((_RTA_DST, wanted))
        if source:
            asked.append((_RTA_SRC, socket.inet_pton(family, source)))
    except OSError:
        raise ValueError(f"{address} or {source} is no IP address") from None
    bits = len(wanted) * 8
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            head = rtnl.ROUTE.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
            answers = sock.get(rtnl.GETROUTE, head + netlink.pack(asked))
    except OSError as error:
        return {"error": (error.strerror or str(error)).lower()}
    for _kind, body in answers:
        if len(body) < rtnl.ROUTE.size:
            continue
        found = netlink.attributes(body, rtnl.ROUTE.size)
        dev = _name(rtnl.link_names(), netlink.number(found.get(_RTA_OIF)))
        return {
            "type": rtnl.ROUTE_TYPES.get(rtnl.ROUTE.unpack_from(body)[7], "?"),
            "dev": dev,
            "via": rtnl.address(found.get(_RTA_GATEWAY)) or _via(found.get(_RTA_VIA)),
            "prefsrc": rtnl.address(found.get(_RTA_PREFSRC)),
            "link_mtu": _link_mtu(dev) if dev else None,
        }
    return {"error": "the kernel gave no route"}


def _link_mtu(dev: str) -> int | None:
    """By ioctl: /sys shows the network namespace it was mounted in, not the one this process went into."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("=16sI20x", dev.encode(), 0))
        except OSError:
            return None
    return int(struct.unpack_from("=16sI", answer)[1])


def _read_family(section: Section, family: int, names: dict[int, str], limit: int) -> None:
    what = f"routes.ipv{rtnl.FAMILY_NUMBER[family]}"
    kept = seen = 0
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            for _kind, body in sock.dump_stream(rtnl.GETROUTE, rtnl.route_request(family)):
                seen += 1
                if seen > SCAN_LIMIT:
                    section.gap(what, f"more than {SCAN_LIMIT} routes: the rest was not looked at")
                    break
                if kept >= limit and (kept >= 2 * limit or not _near(body)):
                    continue
                route = _route(body, names)
                if route is not None:
                    kept += 1
                    section.data.append(route)
    except netlink.Interrupted:
        section.gap(what, "the table changed while it was read: a route may be missing or twice")
    except OSError as error:
        section.gap(what, f"rtnetlink: {procfs.reason(error)}")
    if seen > kept and kept >= limit:
        section.gap(what, f"{kept} of {seen} routes kept: default routes and those without a gateway come first")


def _near(body: bytes) -> bool:
    """A default route, or one without a gateway: what tells most about a host whose table is too long to keep."""
    if len(body) < rtnl.ROUTE.size:
        return False
    if rtnl.ROUTE.unpack_from(body)[1] == 0:
        return True
    found = netlink.attributes(body, rtnl.ROUTE.size)
    return not (_RTA_GATEWAY in found or _RTA_VIA in found or _RTA_MULTIPATH in found or _RTA_NH_ID in found)


def _route(body: bytes, names: dict[int, str]) -> dict[str, Any] | None:
    if len(body) < rtnl.ROUTE.size:
        return None
    family, dst_length, src_length, tos, table, protocol, scope, kind, flags = rtnl.ROUTE.unpack_from(body)
    number = rtnl.FAMILY_NUMBER.get(family)
    if number is None or flags & _RTM_F_CLONED:
        return None
    found = netlink.attributes(body, rtnl.ROUTE.size)
    metrics = netlink.attributes(found.get(_RTA_METRICS, b""))
    route: dict[str, Any] = {
        "family": number,
        "table": netlink.number(found.get(_RTA_TABLE), table),
        "type": rtnl.ROUTE_TYPES.get(kind, str(kind)),
        "dst": _prefix(found.get(_RTA_DST), dst_length, number),
        "via": rtnl.address(found.get(_RTA_GATEWAY)) or _via(found.get(_RTA_VIA)),
        "dev": _name(names, netlink.number(found.get(_RTA_OIF))),
        "prefsrc": rtnl.address(found.get(_RTA_PREFSRC)),
        "metric": netlink.number(found.get(_RTA_PRIORITY)),
        "scope": rtnl.SCOPES.get(scope, str(scope)),
        "proto": rtnl.ROUTE_PROTOCOLS.get(protocol, str(protocol)),
        "flags": _flags(flags),
        "nexthops": _multipath(found.get(_RTA_MULTIPATH, b""), names),
        "mtu": netlink.number(metrics.get(_RTAX_MTU)) or None,
    }
    if tos:
        route["tos"] = tos
    if src_length:
        route["src"] = _prefix(found.get(_RTA_SRC), src_length, number)
    if _RTA_NH_ID in found:
        route["nexthop_id"] = netlink.number(found[_RTA_NH_ID])
    if _RTA_ENCAP_TYPE in found:
        route["encap"] = netlink.number(found[_RTA_ENCAP_TYPE])
    return route


def _name(names: dict[int, str], index: int) -> str | None:
    """The link's name; its number as text when it went away meanwhile; None for index 0."""
    return names.get(index, str(index)) if index else None


def _prefix(data: bytes | None, length: int, family: int) -> str:
    if length == 0:
        return "default"
    return f"{rtnl.address(data) or ('0.0.0.0' if family == 4 else '::')}/{length}"


def _via(data: bytes | None) -> str | None:
    """RTA_VIA: an address family, then a gateway of that family (an IPv6 gateway of an IPv4 route)."""
    return rtnl.address(data[2:]) if data and len(data) > 2 else None


def _flags(bits: int) -> list[str]:
    return [name for bit, name in _FLAGS if bits & bit]


def _multipath(data: bytes, names: dict[int, str]) -> list[dict[str, Any]]:
    hops = []
    offset = 0
    while offset + rtnl.NEXTHOP_HEADER.size <= len(data):
        length, flags, extra, index = rtnl.NEXTHOP_HEADER.unpack_from(data, offset)
        if length < rtnl.NEXTHOP_HEADER.size or offset + length > len(data):
            break
        found = netlink.attributes(data[offset + rtnl.NEXTHOP_HEADER.size : offset + length])
        hops.append(
            {
                "via": rtnl.address(found.get(_RTA_GATEWAY)) or _via(found.get(_RTA_VIA)),
                "dev": _name(names, index),
                "weight": extra + 1,
                "flags": _flags(flags),
            }
        )
        offset += (length + 3) & ~3
    return hops


def _fill_nexthops(section: Section, names: dict[int, str]) -> None:
    """Routes that only name a next-hop object (nexthop_compat_mode 0): look the objects up."""
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            answers = sock.dump(rtnl.GETNEXTHOP, rtnl.nexthop_request())
    except OSError as error:
        section.gap("routes.nexthops", f"rtnetlink: {procfs.reason(error)}")
        return
    single: dict[int, dict[str, Any]] = {}
    groups: dict[int, list[tuple[int, int]]] = {}
    for _kind, body in answers:
        if len(body) < rtnl.NEXTHOP.size:
            continue
        flags = rtnl.NEXTHOP.unpack_from(body)[3]
        found = netlink.attributes(body, rtnl.NEXTHOP.size)
        key = netlink.number(found.get(_NHA_ID))
        group = found.get(_NHA_GROUP)
        if group is not None:
            groups[key] = [(member, weight + 1) for member, weight in struct.iter_unpack("=IBxxx", group[: len(group) & ~7])]
        else:
            single[key] = {
                "via": rtnl.address(found.get(_NHA_GATEWAY)),
                "dev": _name(names, netlink.number(found.get(_NHA_OIF))),
                "flags": _flags(flags),
                "blackhole": _NHA_BLACKHOLE in found,
            }
    for route in section.data:
        key = route.get("nexthop_id")
        if key is None or route["nexthops"] or route["dev"]:
            continue
        if key in single:
            hop = single[key]
            route.update(via=hop["via"], dev=hop["dev"], flags=sorted({*route["flags"], *hop["flags"]}))
            if hop["blackhole"]:
                route["type"] = "blackhole"
        for member, weight in groups.get(key, ()):
            if member in single:
                hop = single[member]
                route["nexthops"].append({"via": hop["via"], "dev": hop["dev"], "weight": weight, "flags": hop["flags"]})


def read_rules() -> Section:
    """Policy rules of IPv4 and IPv6, in the order they are asked.

    Data: list of ``{family, priority, from, to, iif, oif, fwmark, fwmask, table, action}``; from, to: prefix or null for all;
    fwmark, fwmask: numbers or null; table: number or null; ``not``, ``goto``, ``tos``, ``l3mdev``, ``uid_range``, ``ip_proto``,
    ``sport_range``, ``dport_range``, ``suppress_prefixlength`` only where set.
    """
    section = Section([])
    for family in (socket.AF_INET, socket.AF_INET6):
        if family == socket.AF_INET6 and not procfs.has_ipv6():
            continue
        try:
            with netlink.Socket(netlink.ROUTE) as sock:
                answers = sock.dump(rtnl.GETRULE, rtnl.rule_request(family))
        except OSError as error:
            section.gap(f"policy_rules.ipv{rtnl.FAMILY_NUMBER[family]}", f"rtnetlink: {procfs.reason(error)}")
            continue
        section.data += [_rule(body) for _kind, body in answers if len(body) >= rtnl.RULE.size]
    return section


def _rule(body: bytes) -> dict[str, Any]:
    family, dst_length, src_length, tos, table, action, flags = rtnl.RULE.unpack_from(body)
    number = rtnl.FAMILY_NUMBER.get(family, family)
    found = netlink.attributes(body, rtnl.RULE.size)
    table = netlink.number(found.get(_FRA_TABLE), table)
    rule: dict[str, Any] = {
        "family": number,
        "priority": netlink.number(found.get(_FRA_PRIORITY)),
        "from": _prefix(found.get(_FRA_SRC), src_length, number) if src_length else None,
        "to": _prefix(found.get(_FRA_DST), dst_length, number) if dst_length else None,
        "iif": netlink.text_of(found[_FRA_IIFNAME]) if _FRA_IIFNAME in found else None,
        "oif": netlink.text_of(found[_FRA_OIFNAME]) if _FRA_OIFNAME in found else None,
        "fwmark": netlink.number(found[_FRA_FWMARK]) if _FRA_FWMARK in found else None,
        "fwmask": netlink.number(found[_FRA_FWMASK]) if _FRA_FWMASK in found else None,
        "table": table or None,
        "action": _ACTIONS.get(action, str(action)),
    }
    if flags & _FIB_RULE_INVERT:
        rule["not"] = True
    if tos:
        rule["tos"] = tos
    for key, kind in (("goto", _FRA_GOTO), ("l3mdev", _FRA_L3MDEV), ("ip_proto", _FRA_IP_PROTO)):
        if kind in found and netlink.number(found[kind]):
            rule[key] = netlink.number(found[kind])
    for key, kind, form in (
        ("uid_range", _FRA_UID_RANGE, "=II"),
        ("sport_range", _FRA_SPORT_RANGE, "=HH"),
        ("dport_range", _FRA_DPORT_RANGE, "=HH"),
    ):
        if len(found.get(kind, b"")) == struct.calcsize(form):
            rule[key] = list(struct.unpack(form, found[kind]))
    suppress = netlink.number(found.get(_FRA_SUPPRESS_PREFIXLEN), 0xFFFFFFFF)
    if suppress != 0xFFFFFFFF:
        rule["suppress_prefixlength"] = suppress
    return rule
