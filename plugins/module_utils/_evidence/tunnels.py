# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Where tunnels and overlays lead: ends of each tunnel link, forwarding entries of VXLAN, peers of WireGuard, IPsec states.

No key enters the evidence: of WireGuard's public keys a digest, so that two ends can be compared; of private ones nothing.
Sources: include/uapi/linux/{if_link,if_tunnel,neighbour,wireguard,xfrm}.h
"""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netlink, procfs, rtnl

#: kind → attributes of IFLA_INFO_DATA: where its ends and its number stand. ``number``: VNI or key that both ends must share.
_ENDS: dict[str, dict[str, tuple[int, ...]]] = {
    "vxlan": {"number": (1,), "local": (4, 17), "remote": (2, 16), "below": (3,), "port": (15,), "external": (25,)},
    "geneve": {"number": (1,), "remote": (2, 7), "port": (5,), "external": (6,)},
    **{kind: {"local": (2,), "remote": (3,), "below": (1,), "external": (19,)} for kind in ("ipip", "sit", "ip6tnl")},
    **{
        kind: {"local": (6,), "remote": (7,), "below": (1,), "in": (4,), "number": (5,), "external": (18,)}
        for kind in ("gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan")
    },
    **{kind: {"local": (4,), "remote": (5,), "below": (1,), "in": (2,), "number": (3,)} for kind in ("vti", "vti6")},
    "wireguard": {},
}
#: Kinds of links that carry packets inside packets.
KINDS = frozenset(_ENDS)
#: Entries of VXLAN's forwarding tables, peers of WireGuard, and states of IPsec that are kept.
LIMIT = 4096

_AF_BRIDGE, _NDA_DST, _NDA_LLADDR, _NDA_PORT, _NDA_VNI = 7, 1, 2, 6, 7
_XFRM, _XFRM_GETSA, _XFRM_GETPOLICY = 6, 18, 21
_STATE = struct.Struct("=56x16sIB3x16s64x32x12xIIHBBB")
_MODES = {0: "transport", 1: "tunnel", 4: "beet"}


def ends(kind: str | None, data: dict[int, bytes]) -> dict[str, Any]:
    """Ends of a tunnel link: ``{local, remote, below, number, port, external}``; what is not set is left out.

    below: index of the link it is bound to. number: VNI or key. external: each packet says its own ends.
    """
    known = _ENDS.get(kind or "")
    found: dict[str, Any] = {}
    for name, places in (known or {}).items():
        for value in (data[at] for at in places if at in data):
            if name in ("local", "remote"):
                address = rtnl.address(value)
                if address and address not in ("0.0.0.0", "::"):
                    found[name] = address
            elif name == "external":
                # A flag without a value for tunnels of IP and GRE, a byte for VXLAN.
                found.update({"external": True} if not value or netlink.number(value) else {})
            elif name == "port":
                found[name] = struct.unpack(">H", value)[0] if len(value) == 2 else None
            elif name in ("number", "in") and "port" not in (known or {}):
                key = struct.unpack(">I", value)[0] if len(value) == 4 else 0  # keys are in network order, VNIs are not
                found.update({name: key} if key else {})
            else:
                number = netlink.number(value)
                found.update({name: number} if number or name == "number" else {})
    return found


def read(links: list[dict[str, Any]]) -> Section:
    """Data: ``{fdb, wireguard, ipsec}``; each null where there is none of its kind to ask about.

    fdb: ``[{dev, mac, remote, port, number}]``, port and number null where those of the link hold. wireguard: ``[{dev, key, port,
    peers: [{key, endpoint, endpoint_port, handshake_ago_s, keepalive_s, rx_bytes, tx_bytes, allowed}]}]``, handshake_ago_s null
    when there never was one. ipsec: ``{states: [{source, target, spi, protocol, mode, reqid}], policies: number}``.
    """
    section = Section({"fdb": None, "wireguard": None, "ipsec": None})
    names = {link["index"]: link["name"] for link in links}
    kinds = {link["name"]: link.get("kind") for link in links}
    if "vxlan" in kinds.values():
        section.data["fdb"] = _forwarding(section, names, {name for name, kind in kinds.items() if kind == "vxlan"})
    secure = [name for name, kind in kinds.items() if kind == "wireguard"]
    if secure:
        section.data["wireguard"] = _wireguard(section, secure)
    # Asking would load the module that answers.
    if modules.present("xfrm_user"):
        section.data["ipsec"] = _ipsec(section)
    return section


def _forwarding(section: Section, names: dict[int, str], wanted: set[str]) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] = []
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            for _kind, body in sock.dump_stream(rtnl.GETNEIGH, rtnl.neighbour_request(_AF_BRIDGE)):
                entry = forwarding_entry(body, names)
                if entry is None or entry["dev"] not in wanted:
                    continue
                if len(found) >= LIMIT:
                    section.gap("tunnels.fdb", f"only the first {LIMIT} entries are kept")
                    break
                found.append(entry)
    except netlink.Interrupted:
        section.gap("tunnels.fdb", "the table changed while it was read: an entry may be missing or twice")
    except OSError as error:
        section.gap("tunnels.fdb", f"rtnetlink: {procfs.reason(error)}")
        return None
    return found


def forwarding_entry(body: bytes, names: dict[int, str]) -> dict[str, Any] | None:
    """An entry that leads to another host; None for any other."""
    if len(body) < rtnl.NEIGH.size:
        return None
    _family, index, _state, _flags, _type = rtnl.NEIGH.unpack_from(body)
    given = netlink.attributes(body, rtnl.NEIGH.size)
    remote = rtnl.address(given.get(_NDA_DST))
    if remote is None:
        return None
    port = given.get(_NDA_PORT, b"")
    return {
        "dev": names.get(index, str(index)),
        "mac": rtnl.hardware(given.get(_NDA_LLADDR)),
        "remote": remote,
        "port": struct.unpack(">H", port)[0] if len(port) == 2 else None,
        "number": netlink.number(given[_NDA_VNI]) if _NDA_VNI in given else None,
    }


def _wireguard(section: Section, links: list[str]) -> list[dict[str, Any]] | None:
    found = []
    try:
        with netlink.Socket(netlink.GENERIC) as sock:
            family = netlink.generic_family(sock, "wireguard")
            for link in links:
                request = struct.pack("=BBH", 0, 1, 0) + netlink.pack([(2, link)])
                found.append(device(link, [body for _kind, body in sock.dump(family, request)], time.time()))
    except OSError as error:
        section.gap("tunnels.wireguard", procfs.reason(error))
        return None
    return found


def device(link: str, parts: list[bytes], now: float) -> dict[str, Any]:
    """A WireGuard link from the kernel's answers. A peer whose addresses do not fit in one answer goes on in the next."""
    one: dict[str, Any] = {"dev": link, "key": None, "port": None, "peers": []}
    for body in parts:
        given = netlink.attributes(body, 4)
        if 4 in given:
            one["key"] = digest(given[4])
        if 6 in given:
            one["port"] = netlink.number(given[6])
        for _at, nested in netlink.attribute_list(given.get(8, b"")):
            peer = _peer(netlink.attributes(nested), now)
            last = one["peers"][-1] if one["peers"] else None
            if last is not None and last["key"] == peer["key"]:
                last["allowed"] += peer["allowed"]
            elif len(one["peers"]) < LIMIT:
                one["peers"].append(peer)
    return one


def digest(key: bytes) -> str:
    """Of a public key: two ends are compared by it."""
    return hashlib.sha256(key).hexdigest()[:16]


def _peer(given: dict[int, bytes], now: float) -> dict[str, Any]:
    address, port = _endpoint(given.get(4, b""))
    stamp = given.get(6, b"")
    shaken = struct.unpack_from("=q", stamp)[0] if len(stamp) >= 8 else 0
    allowed = []
    for _at, nested in netlink.attribute_list(given.get(9, b"")):
        network = netlink.attributes(nested)
        if rtnl.address(network.get(2)):
            allowed.append(f"{rtnl.address(network.get(2))}/{netlink.number(network.get(3))}")
    return {
        "key": digest(given.get(1, b"")),
        "endpoint": address,
        "endpoint_port": port,
        "handshake_ago_s": round(max(0.0, now - shaken), 1) if shaken else None,
        "keepalive_s": netlink.number(given.get(5)),
        "rx_bytes": netlink.number(given.get(7)),
        "tx_bytes": netlink.number(given.get(8)),
        "allowed": allowed[:256],
    }


def _endpoint(data: bytes) -> tuple[str | None, int | None]:
    """Address and port of a sockaddr_in or sockaddr_in6."""
    if len(data) < 16:
        return None, None
    family = struct.unpack_from("=H", data)[0]
    port = struct.unpack_from(">H", data, 2)[0]
    if family == socket.AF_INET6 and len(data) >= 24:
        return rtnl.address(data[8:24]), port
    return (rtnl.address(data[4:8]), port) if family == socket.AF_INET else (None, None)


def _ipsec(section: Section) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = []
    try:
        with netlink.Socket(_XFRM) as sock:
            for _kind, body in sock.dump_stream(_XFRM_GETSA, b""):
                one = state(body)
                if one is None:
                    continue
                if len(found) >= LIMIT:
                    section.gap("tunnels.ipsec", f"only the first {LIMIT} states are kept")
                    break
                found.append(one)
        with netlink.Socket(_XFRM) as sock:
            policies = sum(1 for _one in sock.dump_stream(_XFRM_GETPOLICY, b""))
    except netlink.Interrupted:
        section.gap("tunnels.ipsec", "states changed while they were read")
        return None
    except OSError as error:
        section.gap("tunnels.ipsec", procfs.reason(error))
        return None
    return {"states": found, "policies": policies}


def state(body: bytes) -> dict[str, Any] | None:
    """Which way an IPsec state leads; its keys, in the same message, are not looked at."""
    if len(body) < _STATE.size:
        return None
    target, spi, protocol, source, _sequence, reqid, family, mode, _window, _flags = _STATE.unpack_from(body)
    size = 4 if family == socket.AF_INET else 16
    return {
        "source": rtnl.address(source[:size]),
        "target": rtnl.address(target[:size]),
        "spi": f"0x{socket.ntohl(spi):08x}",
        "protocol": {50: "esp", 51: "ah", 108: "comp"}.get(protocol, str(protocol)),
        "mode": _MODES.get(mode, str(mode)),
        "reqid": reqid,
    }
