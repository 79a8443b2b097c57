# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Switches of the IP stack that decide about single packets, for every link: forwarding, reverse path check and the like."""

from __future__ import annotations

import os

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

SWITCHES = {
    4: ("forwarding", "rp_filter", "accept_local", "route_localnet", "src_valid_mark", "ignore_routes_with_linkdown"),
    6: ("forwarding", "force_forwarding", "ignore_routes_with_linkdown", "disable_ipv6"),
}
#: Links read at most: hosts of thousands of containers have as many.
MAX_LINKS = 512


def read(only: list[str] | None = None) -> Section:
    """Data: ``{"ipv4": {link: {switch: number}}, "ipv6": {...}}`` with ``all`` among the links; only what the kernel has.

    only: names of links, instead of all.
    """
    section = Section({})
    for family, names in SWITCHES.items():
        folder = f"/proc/sys/net/ipv{family}/conf"
        found: dict[str, dict[str, int]] = {}
        section.data[f"ipv{family}"] = found
        try:
            links = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue  # no such family in this kernel
        except OSError as error:
            section.gap(f"switches.ipv{family}", f"{folder}: {procfs.reason(error)}")
            continue
        if only is not None:
            links = [one for one in links if one == "all" or one in only]
        if len(links) > MAX_LINKS:
            section.gap(f"switches.ipv{family}", f"{MAX_LINKS} of {len(links)} links read")
            links = ["all", *[one for one in links if one != "all"][:MAX_LINKS]]
        for link in links:
            values: dict[str, int] = {}
            for name in names:
                text = procfs.text_or_none(f"{folder}/{link}/{name}", 64)
                if text is not None and text.strip().lstrip("-").isdigit():
                    values[name] = int(text)
            found[link] = values
    return section
