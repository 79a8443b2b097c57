# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""IP addresses of the links."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, procfs, rtnl

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_SECONDARY = 0x01
_FLAGS = (
    (0x02, "nodad"), (0x04, "optimistic"), (0x08, "dadfailed"), (0x10, "homeaddress"), (0x20, "deprecated"),
    (0x40, "tentative"), (0x80, "permanent"), (0x100, "mngtmpaddr"), (0x200, "noprefixroute"), (0x400, "autojoin"),
    (0x800, "stable-privacy"),
)  # fmt: skip


def read() -> Section:
    """Data: list of ``{link, family, address, prefix, scope, flags, peer}``; peer: the far end of a point-to-point address.

    flags: as ``ip address`` names them; 0x01 is ``secondary`` for IPv4 and ``temporary`` for IPv6.
    """
    section = Section([])
    try:
        names = rtnl.link_names()
        with netlink.Socket(netlink.ROUTE) as sock:
            answers = sock.dump(rtnl.GETADDR, rtnl.address_request())
    except OSError as error:
        section.gap("addresses", f"rtnetlink: {procfs.reason(error)}")
        return section
    for _kind, body in answers:
        entry = _address(body, names)
        if entry is not None:
            section.data.append(entry)
    return section


def _address(body: bytes, names: dict[int, str]) -> dict[str, Any] | None:
    if len(body) < rtnl.IFADDR.size:
        return None
    family, prefix, short_flags, scope, index = rtnl.IFADDR.unpack_from(body)
    number = rtnl.FAMILY_NUMBER.get(family)
    found = netlink.attributes(body, rtnl.IFADDR.size)
    local, address = rtnl.address(found.get(_IFA_LOCAL)), rtnl.address(found.get(_IFA_ADDRESS))
    if number is None or not (local or address):
        return None
    bits = netlink.number(found.get(_IFA_FLAGS), short_flags)
    flags = [name for bit, name in _FLAGS if bits & bit]
    if bits & _SECONDARY:
        flags.insert(0, "secondary" if number == 4 else "temporary")
    return {
        "link": names.get(index, str(index)),
        "family": number,
        "address": local or address,
        "prefix": prefix,
        "scope": rtnl.SCOPES.get(scope, str(scope)),
        "flags": flags,
        "peer": address if local and address and local != address else None,
    }
