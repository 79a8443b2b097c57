# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Every packet filter of this network namespace, whoever wrote it, as one :class:`model.Ruleset`.

Nothing is loaded, made or changed by reading: a back end is asked only when the kernel already has it.

A back end is "absent" only when the kernel says so. "unread" means it may hold rules that are not in the answer.
Cost: one text listing of nft (about half its JSON listing), one ``iptables-nft-save`` for each table iptables made, one
``iptables-legacy-save`` for each legacy table; a JSON listing of a table only where its text is not fully understood.
"""

from __future__ import annotations

import gc
from collections.abc import Collection
from typing import Optional, Union

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap, Section
from ansible_collections.netops.fleet.plugins.module_utils._firewall import ipset, iptables, nft
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import (
    IPTABLES_NFT,
    NFT,
    BackendState,
    Ruleset,
)
from ansible_collections.netops.fleet.plugins.module_utils._firewall.nft_kernel import Kernel, available
from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netlink

#: Members read of one set when elements is True.
MAX_ELEMENTS = 65536
#: (family, table) pairs; a family alone is (family, None).
Filter = Optional[Collection["tuple[str, str | None]"]]


def read(
    elements: Union[bool, int] = False, tables: Filter = None, max_elements: int = MAX_ELEMENTS, timeout: float = 30.0
) -> Section:
    """Section whose data is a Ruleset.

    elements: False reads no member of any set; True reads members of sets that have at most ``max_elements``; a number N
    those of sets with at most N. A set left out has ``elements`` None and a gap says so. tables: only these
    (family, table); family and table filters hide rules, so a verdict needs None. timeout: seconds for each command.

    Gaps are named ``firewall.BACKEND ...``. Never raises for what a host can be.
    """
    limit = None if elements is False else max_elements if elements is True else min(int(elements), max_elements)
    collecting = gc.isenabled()
    gc.disable()  # tens of thousands of objects that all stay: the collector would walk them again and again
    try:
        return _read(limit, tables, timeout)
    finally:
        if collecting:
            gc.enable()


def _wanted(family: str, table: str, tables: Filter) -> bool:
    return tables is None or (family, table) in tables or (family, None) in tables


def _read(limit: int | None, tables: Filter, timeout: float) -> Section:
    ruleset, section = Ruleset(), Section(None)
    section.data = ruleset
    state, sets, gaps = ipset.read(limit, timeout)
    section.gaps += gaps
    types = {one.name: one.type for one in sets}
    _nf_tables(ruleset, section, types, limit, tables, timeout)
    for family in ("ip", "ip6"):
        if tables is None or any(one[0] == family for one in tables):
            found, gaps = iptables.read_legacy(family, types, timeout)
            if tables is not None:
                found.chains = [one for one in found.chains if _wanted(family, one.table, tables)]
                found.rules = [one for one in found.rules if _wanted(family, one.table, tables)]
            ruleset.merge(found)
            section.gaps += gaps
    ruleset.backends.append(state)
    ruleset.sets += sets
    _others(section)
    return section


def _nf_tables(
    ruleset: Ruleset, section: Section, types: dict[str, str], limit: int | None, tables: Filter, timeout: float
) -> None:
    """Tables of nft and of iptables-nft."""
    names = [iptables.state_name(IPTABLES_NFT, family) for family in ("ip", "ip6")]
    free, why = available()
    if free is False:
        ruleset.backends += [BackendState(name, "absent") for name in (NFT, *names)]
        return
    kernel = Kernel(timeout)
    try:
        if free is None:
            raise netlink.NetlinkError(0, why)
        view = nft.look(kernel)
    except (netlink.NetlinkError, OSError) as error:
        why = str(error.strerror or error)
        ruleset.backends += [BackendState(name, "unread", why) for name in (NFT, *names)]
        section.gap("firewall.nft", why)
        return
    wanted = [table for table in view.tables if _wanted(table.family, table.name, tables)]
    left = []
    status = dict.fromkeys(names, "absent")
    for table in wanted:
        key = (table.family, table.name)
        chains = view.chains.get(key, [])
        if table.family not in ("ip", "ip6") or table.flags or not iptables.looks_like_iptables(table.name, chains):
            left.append(table)
            continue
        found, gaps = iptables.read_nft_table(kernel, table.family, table.name, chains, types, timeout)
        section.gaps += gaps
        if found is None:
            left.append(table)
            continue
        ruleset.merge(found)
        status[iptables.state_name(IPTABLES_NFT, table.family)] = "ok"
    found, gaps = nft.read(kernel, view, left, len(left) == len(view.tables), limit, timeout)
    ruleset.merge(found)
    section.gaps += gaps
    ruleset.backends += [BackendState(name, status[name]) for name in names]


def _others(section: Section) -> None:
    """Filters of the kernel that have no reader: said, never left out in silence."""
    try:
        with open("/proc/net/arp_tables_names", encoding="ascii", errors="replace") as lines:
            names = ", ".join(line.strip() for line in lines if line.strip())
        if names:
            section.gaps.append(Gap("firewall.arptables-legacy", f"tables {names[:100]} are not read"))
    except OSError:
        pass  # not there, or not ours to see: arptables decides about ARP only
    loaded = [name for name in ("ebtable_filter", "ebtable_nat", "ebtable_broute") if modules.loaded(name)]
    if loaded:
        section.gaps.append(Gap("firewall.ebtables-legacy", f"{', '.join(loaded)}: rules of legacy ebtables are not read"))
