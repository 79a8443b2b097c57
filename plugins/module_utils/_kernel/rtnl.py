# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""rtnetlink: the requests that dump links, addresses, routes, rules, neighbours, qdiscs; names of their numbers.

Sources: rtnetlink(7); include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour,fib_rules,nexthop,pkt_sched,gen_stats}.h
"""

from __future__ import annotations

import socket
import struct

GETLINK, GETADDR, GETROUTE, GETNEIGH, GETRULE, GETQDISC, GETNEXTHOP = 18, 22, 26, 30, 34, 38, 106

IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDR = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
NEIGH = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
RULE = struct.Struct("=BBBBBxxBI")  # family, dst_len, src_len, tos, table, action, flags
TC = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
NEXTHOP = struct.Struct("=BBBxI")  # family, scope, protocol, flags
NEXTHOP_HEADER = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, ifindex

IFLA_EXT_MASK = 29
RTEXT_FILTER_SKIP_STATS = 8

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}

ROUTE_TYPES = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
    8: "prohibit", 9: "throw", 10: "nat",
}  # fmt: skip

ROUTE_PROTOCOLS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 11: "zebra", 12: "bird",
    15: "xorp", 16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 186: "bgp", 187: "isis", 188: "ospf",
    189: "rip", 192: "eigrp",
}  # fmt: skip

HARDWARE = {
    1: "ether", 32: "infiniband", 280: "can", 512: "ppp", 768: "ipip", 769: "tunnel6", 772: "loopback", 776: "sit",
    778: "gre", 801: "ieee802.11", 803: "ieee802.11/radiotap", 823: "gre6", 824: "netlink", 65534: "none",
}  # fmt: skip

OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")

NEIGHBOUR_STATES = {
    0x01: "incomplete", 0x02: "reachable", 0x04: "stale", 0x08: "delay", 0x10: "probe", 0x20: "failed", 0x40: "noarp",
    0x80: "permanent",
}  # fmt: skip

FAMILY_NUMBER: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 6}


def address(data: bytes | None) -> str | None:
    """An IP address of 4 or 16 bytes as text; None for anything else."""
    if data is None:
        return None
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    if len(data) == 16:
        return socket.inet_ntop(socket.AF_INET6, data)
    return None


def hardware(data: bytes | None) -> str | None:
    """A link-layer address as text, as ``ip`` prints it: pairs for Ethernet and InfiniBand, an IP address for tunnels."""
    if not data:
        return None
    if len(data) in (4, 16):
        return address(data)
    return ":".join(f"{byte:02x}" for byte in data)


def link_names() -> dict[int, str]:
    """Index → name of the links in this network namespace."""
    return dict(socket.if_nameindex())


def link_request() -> bytes:
    return IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def address_request() -> bytes:
    return IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def route_request(family: int) -> bytes:
    return ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def neighbour_request(family: int) -> bytes:
    return NEIGH.pack(family, 0, 0, 0, 0)


def rule_request(family: int) -> bytes:
    return RULE.pack(family, 0, 0, 0, 0, 0, 0)


def qdisc_request() -> bytes:
    return TC.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def nexthop_request() -> bytes:
    return NEXTHOP.pack(socket.AF_UNSPEC, 0, 0, 0)
