# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which program wrote a rule, chain, table or set: known by the names it gives.

Rules of a program are changed through that program; a tool that edits them is undone at its next sync, or breaks it.
Names are the programs' own, from their sources and documentation. "user" when no program is recognised.
"""

from __future__ import annotations

import re
from typing import Optional

#: (owner, pattern of the table's name, pattern of the chain's or set's name, pattern of the comment); None is not looked at.
#: Patterns must match from the start; the first line that matches wins.
_RULES: tuple[tuple[str, str | None, str | None, str | None], ...] = (
    ("kube-proxy", r"kube-proxy\Z", None, None),
    ("kube-proxy", None, r"KUBE-", None),
    ("kube-proxy", None, None, r"kubernetes\b"),
    ("calico", r"cali(co)?\b", None, None),
    ("calico", None, r"cali([-0-9]|co)", None),
    ("calico", None, None, r"cali:"),
    ("cilium", r"cilium", None, None),
    ("cilium", None, r"(OLD_)?CILIUM_|cilium", None),
    ("cilium", None, None, r"cilium[-:]"),
    ("docker", r"docker", None, None),
    ("docker", None, r"DOCKER(-|\Z)", None),
    ("netavark", r"netavark", None, None),
    ("netavark", None, r"NETAVARK[-_]|nv_", None),
    ("cni", r"cni_hostport\Z|cni_plugins", None, None),
    ("cni", None, r"CNI-", None),
    ("firewalld", r"firewalld\Z", None, None),
    ("firewalld", None, r"(IN|FWD[IO]?|FWDI|FWDO|PRE|POST|FedoraServer)_[A-Za-z0-9-]+(_(log|deny|allow|pre|post))?\Z", None),
    ("firewalld", None, r"(INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)_(direct|ZONES|ZONES_SOURCE)\Z", None),
    ("ufw", None, r"ufw6?-", None),
    ("fail2ban", r"f2b-table\Z", None, None),
    ("fail2ban", None, r"(f2b|fail2ban)-|addr6?-set-", None),
    ("libvirt", r"libvirt_network\Z", None, None),
    ("libvirt", None, r"LIBVIRT_|libvirt-", None),
    ("incus", r"incus\Z", None, None),
    ("incus", None, None, r"generated for Incus"),
    ("lxd", r"lxd\Z", None, None),
    ("lxc", r"lxc\Z", None, None),
    ("lxd", None, None, r"generated for LXD"),
    ("crowdsec", r"crowdsec6?\Z", None, None),
    ("crowdsec", None, r"(?i:crowdsec)", None),
    ("crowdsec", None, None, r"(?i:crowdsec)"),
    ("tailscale", None, r"ts-(input|forward|postrouting)", None),
)

#: Owners whose chains hold what runs on the host, or is banned there, at the moment: unlike on every two hosts.
FOLLOWING = frozenset(
    ("kube-proxy", "calico", "cilium", "docker", "netavark", "cni", "fail2ban", "libvirt", "incus", "lxd", "lxc", "crowdsec")
)

_Pattern = Optional["re.Pattern[str]"]


def _compiled(pattern: str | None) -> _Pattern:
    return None if pattern is None else re.compile(pattern)


_COMPILED: tuple[tuple[str, _Pattern, _Pattern, _Pattern], ...] = tuple(
    (owner, _compiled(table), _compiled(chain), _compiled(comment)) for owner, table, chain, comment in _RULES
)
_NAMED: dict[tuple[str, str], str] = {}


def owner_of(table: str, chain: str, comment: str | None = None, family: str | None = None) -> str:
    """docker, kube-proxy, calico, cilium, cni, netavark, firewalld, ufw, fail2ban, libvirt, lxc, lxd, incus, crowdsec,
    tailscale, or user.

    chain: of a rule or the chain itself; the name of a set, for a set. family: of the table, not needed by any owner so far.
    """
    del family
    found = _NAMED.get((table, chain))
    if found is None:
        found = _by_name(table, chain)
        if len(_NAMED) < 65536:
            _NAMED[table, chain] = found
    if found == "user" and comment:
        for owner, _table, _chain, pattern in _COMPILED:
            if pattern is not None and pattern.match(comment):
                return owner
    return found


def _by_name(table: str, chain: str) -> str:
    for owner, of_table, of_chain, _comment in _COMPILED:
        if (of_table is not None and of_table.match(table)) or (of_chain is not None and of_chain.match(chain)):
            return owner
    return "user"
