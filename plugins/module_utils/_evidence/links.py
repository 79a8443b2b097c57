# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Network links: what kind, which driver, up or not, and whether a cable is there."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence import netem, tunnels
from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ethtool, netlink, procfs, rtnl

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_QDISC, _IFLA_MASTER = 1, 3, 4, 5, 6, 10
_IFLA_TXQLEN, _IFLA_OPERSTATE, _IFLA_LINKINFO, _IFLA_CARRIER, _IFLA_CARRIER_CHANGES = 13, 16, 18, 33, 35
_IFLA_LINK_NETNSID, _IFLA_XDP, _IFLA_PARENT_DEV_NAME, _IFLA_PARENT_DEV_BUS_NAME = 37, 43, 56, 57
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_XDP_ATTACHED = 1, 2, 2
_IFF_UP = 0x1
_BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")


def read() -> Section:
    """All links of this network namespace.

    Data: list of ``{name, index, kind, type, mac, mtu, up, carrier, operstate, master, peer_index, peer_elsewhere, driver,
    speed_mbit, duplex, qlen, qdisc, carrier_changes, xdp, physical, numa_node, detail, netem}``. kind: null for a link that
    is no software device (and for ``lo``). carrier: null while the link is down. peer_index: the link below or the other end;
    peer_elsewhere: that index belongs to another network namespace. detail: vlan id, bond mode, ends of a tunnel as in
    ``tunnels.ends``. netem: what that queueing discipline does to outgoing packets, a list as of ``netem.read``; null: not read.
    """
    section = Section([])
    try:
        with netlink.Socket(netlink.ROUTE) as sock:
            ext = netlink.pack([(rtnl.IFLA_EXT_MASK, rtnl.RTEXT_FILTER_SKIP_STATS)])
            answers = sock.dump(rtnl.GETLINK, rtnl.link_request() + ext)
            section.data = [_link(body) for _kind, body in answers if len(body) >= rtnl.IFINFO.size]
            _impairments(section, sock)
    except OSError as error:
        section.gap("links", f"rtnetlink: {procfs.reason(error)}")
        return section
    names = {link["index"]: link["name"] for link in section.data}
    for link in section.data:
        link["master"] = names.get(link["master"])
    _ask_drivers(section)
    return section


def _impairments(section: Section, sock: netlink.Socket) -> None:
    try:
        found = netem.read(sock)
    except OSError as error:
        section.gap("links.netem", f"rtnetlink: {procfs.reason(error)}")
        return
    for link in section.data:
        link["netem"] = found.get(link["index"], [])


def _link(body: bytes) -> dict[str, Any]:
    _family, hardware, index, flags, _change = rtnl.IFINFO.unpack_from(body)
    found = netlink.attributes(body, rtnl.IFINFO.size)
    info = netlink.attributes(found.get(_IFLA_LINKINFO, b""))
    kind = netlink.text_of(info[_IFLA_INFO_KIND]) if _IFLA_INFO_KIND in info else None
    up = bool(flags & _IFF_UP)
    state = netlink.number(found.get(_IFLA_OPERSTATE))
    mac = rtnl.hardware(found.get(_IFLA_ADDRESS))
    peer = netlink.number(found.get(_IFLA_LINK))
    link: dict[str, Any] = {
        "name": netlink.text_of(found.get(_IFLA_IFNAME, b"")),
        "index": index,
        "kind": kind,
        "type": rtnl.HARDWARE.get(hardware, str(hardware)),
        "mac": mac,
        "mtu": netlink.number(found.get(_IFLA_MTU)),
        "up": up,
        "carrier": bool(netlink.number(found[_IFLA_CARRIER])) if up and _IFLA_CARRIER in found else None,
        "operstate": rtnl.OPERSTATES[state] if state < len(rtnl.OPERSTATES) else str(state),
        "master": netlink.number(found.get(_IFLA_MASTER)),
        "peer_index": peer if peer and (peer != index or _IFLA_LINK_NETNSID in found) else None,
        "peer_elsewhere": _IFLA_LINK_NETNSID in found,
        "driver": None,
        "speed_mbit": None,
        "duplex": None,
        "qlen": netlink.number(found.get(_IFLA_TXQLEN)),
        "qdisc": netlink.text_of(found.get(_IFLA_QDISC, b"")) or None,
        "carrier_changes": netlink.number(found.get(_IFLA_CARRIER_CHANGES)),
        "xdp": bool(netlink.number(netlink.attributes(found.get(_IFLA_XDP, b"")).get(_IFLA_XDP_ATTACHED))),
        "physical": False,
        "numa_node": None,
        "detail": _detail(kind, netlink.attributes(info.get(_IFLA_INFO_DATA, b""))),
        "netem": None,
    }
    if kind is None and link["type"] != "loopback":
        folder = _device_folder(link, found)
        link["physical"] = folder is not None
        if folder:
            node = procfs.integer(f"{folder}/numa_node")
            link["numa_node"] = node if node is not None and node >= 0 else None
    return link


def _device_folder(link: dict[str, Any], found: dict[int, bytes]) -> str | None:
    """The sysfs folder of the device behind a link, "" when there is one whose folder is not known, None without one."""
    parent = netlink.text_of(found.get(_IFLA_PARENT_DEV_NAME, b""))
    bus = netlink.text_of(found.get(_IFLA_PARENT_DEV_BUS_NAME, b""))
    if parent:
        return f"/sys/bus/{bus}/devices/{parent}" if bus and "/" not in bus + parent else ""
    # Kernels before 5.14 do not say it. /sys may show another network namespace than ours: same index and address, or no answer.
    folder = f"/sys/class/net/{link['name']}"
    if "/" in link["name"] or procfs.integer(f"{folder}/ifindex") != link["index"]:
        return None
    if (procfs.text_or_none(f"{folder}/address", 256) or "").strip() != (link["mac"] or ""):
        return None
    return f"{folder}/device" if os.path.exists(f"{folder}/device") else None


def _detail(kind: str | None, data: dict[int, bytes]) -> dict[str, Any]:
    """The few settings of a software link that decide where its packets go."""
    if kind == "vlan":
        return {"vlan": netlink.number(data.get(1))}
    if kind in tunnels.KINDS:
        return tunnels.ends(kind, data)
    if kind == "bond":
        mode = netlink.number(data.get(1), 255)
        return {"mode": _BOND_MODES[mode] if mode < len(_BOND_MODES) else str(mode)}
    return {}


def _ask_drivers(section: Section) -> None:
    """Driver of every physical link; speed and duplex of those (and of bonds) that are up."""
    wanted = [link for link in section.data if link["physical"] or link["kind"] in ("bond", "team")]
    if not wanted:
        return
    try:
        tool = ethtool.Ethtool()
    except OSError as error:
        section.gap("links.driver", f"ethtool ioctl: {procfs.reason(error)}")
        return
    with tool:
        for link in wanted:
            try:
                link["driver"] = tool.driver(link["name"])
            except OSError as error:
                section.gap("links.driver", f"{link['name']}: {procfs.reason(error)}")
            if not link["up"]:
                continue
            try:
                link["speed_mbit"], link["duplex"] = tool.link_settings(link["name"])
            except OSError:
                pass  # virtual NICs have no speed; null says so
