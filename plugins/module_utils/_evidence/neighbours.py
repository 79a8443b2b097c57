# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Neighbours: which link-layer address the kernel knows for an IP address on the link, and whether it answers."""

from __future__ import annotations

import socket

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, procfs, rtnl

#: Entries kept; failed and incomplete ones are kept beyond it, up to twice as many.
LIMIT = 20000

_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_NOARP, _NUD_TROUBLE = 0x40, 0x21
_NTF_ROUTER = 0x80


def read(limit: int = LIMIT) -> Section:
    """ARP and ND entries.

    Data: list of ``{family, dev, address, mac, state, router}``; mac null while unknown. Entries the kernel makes for addresses
    that need no resolution (multicast, loopback) are left out.
    """
    section = Section([])
    try:
        names = rtnl.link_names()
    except OSError as error:
        section.gap("neighbours", f"rtnetlink: {procfs.reason(error)}")
        return section
    for family in (socket.AF_INET, socket.AF_INET6):
        if family == socket.AF_INET6 and not procfs.has_ipv6():
            continue
        what = f"neighbours.ipv{rtnl.FAMILY_NUMBER[family]}"
        kept = left = 0
        try:
            with netlink.Socket(netlink.ROUTE) as sock:
                for _kind, body in sock.dump_stream(rtnl.GETNEIGH, rtnl.neighbour_request(family)):
                    if len(body) < rtnl.NEIGH.size:
                        continue
                    _family, index, state, flags, _type = rtnl.NEIGH.unpack_from(body)
                    if state & _NUD_NOARP:
                        continue
                    if kept >= limit and (kept >= 2 * limit or not state & _NUD_TROUBLE):
                        left += 1
                        continue
                    found = netlink.attributes(body, rtnl.NEIGH.size)
                    kept += 1
                    section.data.append(
                        {
                            "family": rtnl.FAMILY_NUMBER[family],
                            "dev": names.get(index, str(index)),
                            "address": rtnl.address(found.get(_NDA_DST)),
                            "mac": rtnl.hardware(found.get(_NDA_LLADDR)),
                            "state": rtnl.NEIGHBOUR_STATES.get(state, "none" if not state else str(state)),
                            "router": bool(flags & _NTF_ROUTER),
                        }
                    )
        except netlink.Interrupted:
            section.gap(what, "the table changed while it was read: an entry may be missing or twice")
        except OSError as error:
            section.gap(what, f"rtnetlink: {procfs.reason(error)}")
        if left:
            section.gap(f"{what}.kept", f"{kept} of {kept + left} entries kept: failed and incomplete ones come first")
    return section
