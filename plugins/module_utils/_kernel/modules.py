# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Is a kernel feature there *already*? Asked before every request that could make the kernel load a module."""

from __future__ import annotations

import os
from functools import lru_cache


@lru_cache(maxsize=None)
def _loaded() -> frozenset[str] | None:
    """Names in /proc/modules; None on a kernel built without loadable modules."""
    try:
        with open("/proc/modules", encoding="ascii", errors="replace") as lines:
            return frozenset(line.split(" ", 1)[0] for line in lines)
    except OSError:
        return None


@lru_cache(maxsize=None)
def _builtin() -> frozenset[str] | None:
    """Names in modules.builtin of the running kernel; None when the file is not there (containers)."""
    path = f"/lib/modules/{os.uname().release}/modules.builtin"
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            return frozenset(os.path.basename(line.strip()).split(".", 1)[0].replace("-", "_") for line in lines)
    except OSError:
        return None


@lru_cache(maxsize=None)
def _symbols(wanted: tuple[str, ...]) -> frozenset[str] | None:
    """Which of ``wanted`` are names in /proc/kallsyms; None when it cannot be read."""
    needles = {name.encode("ascii") for name in wanted}
    found = set()
    try:
        with open("/proc/kallsyms", "rb") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) > 2 and fields[2] in needles:
                    found.add(fields[2].decode("ascii"))
                    if len(found) == len(needles):
                        break
    except OSError:
        return None
    return frozenset(found)


#: For kernels whose list of built-in modules is out of sight: a function that only exists with the feature.
_WITNESS = {
    "nf_tables": "nf_tables_newrule",
    "nfnetlink": "nfnetlink_rcv",
    "ip_set": "ip_set_create",
    "nf_conntrack": "nf_conntrack_in",
    "inet_diag": "inet_diag_dump_icsk",
    "tcp_diag": "tcp_diag_dump",
    "udp_diag": "udp_diag_dump",
    "cls_bpf": "cls_bpf_classify",
    "sch_ingress": "clsact_init",
    "ip_tables": "ipt_do_table",
    "ip6_tables": "ip6t_do_table",
    "ip_vs": "ip_vs_in_hook",
}


def present(name: str) -> bool | None:
    """True: loaded or built in, so that asking loads nothing. False: not there. None: could not tell.

    On a kernel without loadable modules asking can never load one; there True means "free to ask".
    """
    name = name.replace("-", "_")
    loaded = _loaded()
    if loaded is None:
        # No module support: a request for an absent feature fails and changes nothing.
        return True
    if name in loaded:
        return True
    if os.path.isdir(f"/sys/module/{name}"):
        return True
    builtin = _builtin()
    if builtin is not None:
        return name in builtin
    witness = _WITNESS.get(name)
    if witness is None:
        return None
    found = _symbols(tuple(sorted(_WITNESS.values())))
    return None if found is None else witness in found


def loaded(name: str) -> bool:
    """Is it loaded as a module? Built-in features give False."""
    return name.replace("-", "_") in (_loaded() or frozenset())


def forget() -> None:
    """Look again: something was loaded."""
    for cached in (_loaded, _builtin, _symbols):
        cached.cache_clear()
