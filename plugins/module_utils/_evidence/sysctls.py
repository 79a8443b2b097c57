# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Kernel parameters that decide whether and how fast packets pass. Read from /proc/sys, of this network namespace."""

from __future__ import annotations

import os

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

#: Whole folders; files in them that hold secrets are named below and never opened.
_FOLDERS = ("net/core", "net/ipv4", "net/ipv4/neigh/default", "net/ipv6", "net/ipv6/neigh/default", "net/netfilter", "net/bridge")
_PREFIXES = {
    "net/ipv4": ("tcp_", "udp_", "ip_", "icmp_", "fib_", "conf", "igmp_", "ping_group_range", "nexthop", "ipfrag"),
    "net/netfilter": ("nf_conntrack_",),
}
_FILES = (
    "net/ipv4/vs/conntrack", "net/ipv4/vs/expire_nodest_conn", "net/ipv4/vs/conn_reuse_mode", "net/ipv4/route/flush_min",
    "net/ipv4/route/gc_thresh", "net/ipv6/route/gc_thresh", "net/ipv6/route/max_size", "net/nf_conntrack_max",
    "net/unix/max_dgram_qlen", "vm/min_free_kbytes", "vm/swappiness", "vm/zone_reclaim_mode", "vm/overcommit_memory",
    "vm/dirty_ratio", "vm/dirty_background_ratio", "vm/max_map_count", "vm/nr_hugepages", "fs/file-max", "fs/nr_open",
    "kernel/numa_balancing", "kernel/pid_max", "kernel/threads-max", "kernel/sched_autogroup_enabled",
    "kernel/unprivileged_bpf_disabled", "kernel/timer_migration",
)  # fmt: skip
_CONF4 = (
    "accept_local", "accept_redirects", "accept_source_route", "arp_accept", "arp_announce", "arp_filter", "arp_ignore",
    "arp_notify", "disable_policy", "disable_xfrm", "drop_gratuitous_arp", "drop_unicast_in_l2_multicast", "forwarding",
    "log_martians", "promote_secondaries", "proxy_arp", "route_localnet", "rp_filter", "secure_redirects", "send_redirects",
    "src_valid_mark",
)  # fmt: skip
_CONF6 = (
    "accept_dad", "accept_ra", "accept_ra_defrtr", "accept_redirects", "addr_gen_mode", "autoconf", "disable_ipv6",
    "forwarding", "keep_addr_on_down", "mtu", "proxy_ndp", "use_tempaddr",
)  # fmt: skip
#: Keys, and random numbers an attacker could use.
_SECRET = ("fastopen_key", "stable_secret", "rss_key", "hash_seed")
_LEFT_OUT = frozenset(("net/netfilter/nf_conntrack_count",))
#: Links whose own settings are read at most; beyond it a gap says so.
MAX_LINKS = 64


def read(links: list[str] | None = None) -> Section:
    """Data: ``{name: value}``, value as text with white space folded. Names as sysctl(8) writes them.

    A dot in a link's name is ``/`` there. Levels (entries in a table, files open) are not parameters and left out.

    links: links whose own settings (rp_filter, arp_*, forwarding, …) are read beside ``all`` and ``default``.
    """
    section = Section({})
    names: list[str] = []
    for folder in _FOLDERS:
        names += _files(folder)
    names += _FILES
    links = list(links or ())
    if len(links) > MAX_LINKS:
        section.gap("sysctls.links", f"settings of {MAX_LINKS} of {len(links)} links read")
    for link in ["all", "default", *links[:MAX_LINKS]]:
        if "/" in link or link in (".", ".."):
            continue
        names += [f"net/ipv4/conf/{link}/{name}" for name in _CONF4]
        names += [f"net/ipv6/conf/{link}/{name}" for name in _CONF6]
    denied = []
    for name in names:
        if name in _LEFT_OUT or any(word in name for word in _SECRET):
            continue
        try:
            value = procfs.text(f"/proc/sys/{name}", 4096)
        except PermissionError:
            if _readable_by_owner(name):
                denied.append(dotted(name))
            continue
        except OSError:
            continue  # this kernel has no such parameter, or its value cannot be told (no module behind it)
        section.data[dotted(name)] = " ".join(value.split())
    if denied:
        section.gap(
            "sysctls", f"not permitted: {', '.join(denied[:10])}" + (f" and {len(denied) - 10} more" if len(denied) > 10 else "")
        )
    return section


def _files(folder: str) -> list[str]:
    prefixes = _PREFIXES.get(folder)
    found = []
    try:
        with os.scandir(f"/proc/sys/{folder}") as entries:
            for entry in entries:
                if (prefixes is None or entry.name.startswith(prefixes)) and entry.is_file(follow_symlinks=False):
                    found.append(f"{folder}/{entry.name}")
    except OSError:
        return []
    return sorted(found)


def _readable_by_owner(name: str) -> bool:
    """Not one of those that can only be written (route/flush)."""
    try:
        return bool(os.stat(f"/proc/sys/{name}").st_mode & 0o400)
    except OSError:
        return False


def dotted(path: str) -> str:
    """``net/ipv4/conf/eth0.5/rp_filter`` → ``net.ipv4.conf.eth0/5.rp_filter``, the form sysctl(8) reads and writes."""
    return path.translate({ord("/"): ".", ord("."): "/"})
