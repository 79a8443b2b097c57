# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""An ipset as a thing that is journalled: captured with all its entries, put back as it was, in one step.

    {"type": "hash:net", "family": 2, "count": 3, "digest": "...", "revision": 7, "create": base64, "data": base64 of zlib}

create, data: what the kernel gives and takes (_kernel/ipset.py); a state that is only compared has neither. The digest covers the
entries that stay: one with a remaining time goes by itself, which is nobody's change.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._kernel import ipset, modules, netlink

_COMPARED = ("type", "family", "digest")


def digest(entries: ipset.Entries, ordered: bool = False) -> str:
    """Of the entries that stay, in any order. ordered: they are known to be sorted."""
    staying = ipset.lasting(entries)
    return hashlib.sha256(staying.data if ordered else b"".join(sorted(staying))).hexdigest()


def compared(header: ipset.Header, entries: ipset.Entries, ordered: bool = False) -> dict[str, Any]:
    """A state to compare with."""
    return {"type": header.type, "family": header.family, "count": len(entries), "digest": digest(entries, ordered)}


def whole(header: ipset.Header, entries: ipset.Entries) -> dict[str, Any]:
    """A state with all that is needed to put it back."""
    return {
        **compared(header, entries),
        "revision": header.revision,
        "create": base64.b64encode(netlink.pack(list(header.create))).decode("ascii"),
        "data": base64.b64encode(zlib.compress(entries.data, 1)).decode("ascii"),
    }


def capture(name: str) -> dict[str, Any] | None:
    # On a kernel whose modules cannot be seen the question is asked: what is journalled was there.
    if modules.present("ip_set") is False:
        return None
    with ipset.Sets() as sets:
        found = sets.read(name)
    return None if found is None else whole(*found)


def put(name: str, state: dict[str, Any] | None) -> None:
    with ipset.Sets() as sets:
        if state is None:
            sets.destroy(name)
            return
        create = netlink.attribute_list(base64.b64decode(state["create"]))
        header = ipset.Header(name, state["type"], int(state["revision"]), int(state["family"]), create)
        sets.replace(header, ipset.Entries.of(zlib.decompress(base64.b64decode(state["data"]))))


def same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(one[key] == other[key] for key in _COMPARED)
