# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What kernel parameters accept, so that a wrong value is an error before it is written.

The kernel takes much that nobody means: one number for a triple (only the first changes), min above max, a fourth number
(dropped), 7 for a switch, a negative time, ``030`` (octal: 24). Sources: Documentation/admin-guide/sysctl/,
networking/ip-sysctl.rst, net/ipv4/sysctl_net_ipv4.c; tests/kernel/test_sysctl_schema.py holds it against a running kernel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INT_MAX = 2147483647
UINT_MAX = 4294967295
LONG_MAX = 9223372036854775807
#: Seconds that the kernel keeps as an int of ticks, of which there are up to 1000 a second.
_JIFFIES = INT_MAX // 1000

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\Z")


@dataclass(frozen=True)
class Key:
    """count: numbers of the value; 0 for a word. low, high: bounds of each number. rising: none may be below the one before.

    scope: ``netns`` (each network namespace has its own) or ``global``. module: the kernel module that brings the key, or None.
    cuts: a wrong value can cut the host off from its controller. unit: for messages.
    """

    count: int = 1
    low: int = 0
    high: int = INT_MAX
    rising: bool = False
    scope: str = "netns"
    module: str | None = None
    cuts: bool = False
    unit: str = ""


_SWITCH = Key(low=0, high=1)
_TRIPLE = Key(count=3, low=1, high=INT_MAX, rising=True, unit="bytes")

KEYS: dict[str, Key] = {
    "fs.file-max": Key(low=1024, high=LONG_MAX, scope="global", unit="files"),
    "fs.nr_open": Key(low=1024, high=2147483584, scope="global", unit="files"),
    "net.core.default_qdisc": Key(count=0, scope="global"),
    "net.core.netdev_budget": Key(low=1, scope="global", unit="packets"),
    "net.core.netdev_max_backlog": Key(low=1, scope="global", unit="packets"),
    "net.core.optmem_max": Key(low=0, unit="bytes"),
    "net.core.rmem_default": Key(low=2304, scope="global", unit="bytes"),
    "net.core.rmem_max": Key(low=2304, scope="global", unit="bytes"),
    "net.core.somaxconn": Key(low=1, unit="connections"),
    "net.core.wmem_default": Key(low=4608, scope="global", unit="bytes"),
    "net.core.wmem_max": Key(low=4608, scope="global", unit="bytes"),
    "net.ipv4.ip_forward": Key(high=1, cuts=True),
    "net.ipv4.ip_local_port_range": Key(count=2, low=1, high=65535, rising=True, unit="ports"),
    "net.ipv4.tcp_abort_on_overflow": _SWITCH,
    "net.ipv4.tcp_congestion_control": Key(count=0),
    "net.ipv4.tcp_ecn": Key(high=2),
    "net.ipv4.tcp_fastopen": Key(high=0x7FFFFFFF),
    "net.ipv4.tcp_fin_timeout": Key(low=1, high=600, unit="s"),
    "net.ipv4.tcp_keepalive_intvl": Key(low=1, high=32767, unit="s"),
    "net.ipv4.tcp_keepalive_probes": Key(low=1, high=127),
    "net.ipv4.tcp_keepalive_time": Key(low=1, high=32767, unit="s"),
    "net.ipv4.tcp_max_orphans": Key(low=1, scope="global", unit="connections"),
    "net.ipv4.tcp_max_syn_backlog": Key(low=1, unit="connections"),
    "net.ipv4.tcp_max_tw_buckets": Key(low=1, unit="connections"),
    "net.ipv4.tcp_mem": Key(count=3, low=1, high=LONG_MAX, rising=True, scope="global", cuts=True, unit="pages"),
    "net.ipv4.tcp_moderate_rcvbuf": _SWITCH,
    "net.ipv4.tcp_mtu_probing": Key(high=2),
    "net.ipv4.tcp_no_metrics_save": _SWITCH,
    "net.ipv4.tcp_notsent_lowat": Key(low=1, high=UINT_MAX, unit="bytes"),
    "net.ipv4.tcp_rmem": _TRIPLE,
    "net.ipv4.tcp_sack": _SWITCH,
    "net.ipv4.tcp_slow_start_after_idle": _SWITCH,
    "net.ipv4.tcp_syn_retries": Key(low=1, high=127),
    "net.ipv4.tcp_synack_retries": Key(low=0, high=255),
    "net.ipv4.tcp_syncookies": Key(high=2),
    "net.ipv4.tcp_timestamps": Key(high=2),
    "net.ipv4.tcp_tw_reuse": Key(high=2),
    "net.ipv4.tcp_window_scaling": _SWITCH,
    "net.ipv4.tcp_wmem": _TRIPLE,
    "net.netfilter.nf_conntrack_buckets": Key(low=1, scope="global", module="nf_conntrack"),
    "net.netfilter.nf_conntrack_max": Key(low=1, scope="global", module="nf_conntrack", unit="connections"),
    "net.netfilter.nf_conntrack_tcp_timeout_established": Key(low=60, high=_JIFFIES, module="nf_conntrack", unit="s"),
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": Key(low=1, high=_JIFFIES, module="nf_conntrack", unit="s"),
}

#: The last component of names that have one entry per interface (or ``all``, ``default``).
_PER_LINK: dict[str, Key] = {
    "net.ipv4.conf.*.accept_local": Key(high=1, cuts=True),
    "net.ipv4.conf.*.arp_announce": Key(high=2, cuts=True),
    "net.ipv4.conf.*.arp_ignore": Key(high=8, cuts=True),
    "net.ipv4.conf.*.forwarding": Key(high=1, cuts=True),
    "net.ipv4.conf.*.rp_filter": Key(high=2, cuts=True),
    "net.ipv6.conf.*.accept_ra": Key(high=2, cuts=True),
    "net.ipv6.conf.*.disable_ipv6": Key(high=1, cuts=True),
    "net.ipv6.conf.*.forwarding": Key(high=1, cuts=True),
    "net.ipv4.neigh.*.gc_thresh1": Key(low=0, scope="global", cuts=True, unit="neighbours"),
    "net.ipv4.neigh.*.gc_thresh2": Key(low=1, scope="global", cuts=True, unit="neighbours"),
    "net.ipv4.neigh.*.gc_thresh3": Key(low=1, scope="global", cuts=True, unit="neighbours"),
    "net.ipv6.neigh.*.gc_thresh1": Key(low=0, scope="global", cuts=True, unit="neighbours"),
    "net.ipv6.neigh.*.gc_thresh2": Key(low=1, scope="global", cuts=True, unit="neighbours"),
    "net.ipv6.neigh.*.gc_thresh3": Key(low=1, scope="global", cuts=True, unit="neighbours"),
}

#: Parameters that change when another one is written; they are journalled with it, so that the way back is complete.
COMPANIONS: dict[str, tuple[str, ...]] = {
    "net.ipv4.ip_forward": ("net.ipv4.conf.*.forwarding", "net.ipv4.conf.*.accept_redirects"),
    "net.ipv4.conf.all.forwarding": ("net.ipv4.ip_forward", "net.ipv4.conf.*.forwarding", "net.ipv4.conf.*.accept_redirects"),
    "net.ipv6.conf.all.forwarding": ("net.ipv6.conf.*.forwarding",),
    "net.ipv6.conf.all.disable_ipv6": ("net.ipv6.conf.*.disable_ipv6",),
    "net.ipv4.tcp_congestion_control": ("net.ipv4.tcp_allowed_congestion_control",),
}

#: Gone from the kernel; guides still name them.
GONE = {
    "net.ipv4.tcp_tw_recycle": "removed in Linux 4.12: it broke clients behind address translation",
    "kernel.sched_latency_ns": "moved to debugfs in Linux 5.13",
    "kernel.sched_min_granularity_ns": "moved to debugfs in Linux 5.13",
    "kernel.sched_wakeup_granularity_ns": "moved to debugfs in Linux 5.13",
    "kernel.sched_migration_cost_ns": "moved to debugfs in Linux 5.13",
    "net.ipv4.tcp_adv_win_scale": "without effect since Linux 6.6",
}


def key(name: str) -> Key | None:
    """What is known about a canonical name; None for a parameter this collection has no rules for."""
    found = KEYS.get(name)
    if found is not None:
        return found
    parts = name.split(".")
    if len(parts) >= 5:
        return _PER_LINK.get(".".join([*parts[:3], "*", parts[-1]]))
    return None


def check(name: str, value: str, present: str | None, choices: list[str] | None = None) -> str | None:
    """Why ``value`` must not be written, in one sentence, or None.

    present: the present value, which tells the form of keys without rules. choices: words that are available, for words.
    """
    words = value.split()
    if not words:
        return f"{name}: the value is empty; to leave a key alone, do not list it"
    known = key(name)
    if known is not None and known.count == 0:
        return _check_word(name, words, choices)
    if known is None:
        return _check_form(name, words, present)
    if len(words) != known.count:
        shape = "one number" if known.count == 1 else f"{known.count} numbers"
        silently = "; the kernel would take it and change only a part" if known.count > 1 else ""
        return f"{name}: {value!r} has {len(words)} part{'s' if len(words) != 1 else ''}, it takes {shape}{silently}"
    numbers = []
    for word in words:
        if not _DECIMAL.match(word):
            return f"{name}: {word!r} is no decimal number" + (
                " (the kernel reads a leading 0 as octal)" if word[:1] == "0" else ""
            )
        number = int(word)
        if not known.low <= number <= known.high:
            unit = f" {known.unit}" if known.unit else ""
            return f"{name}: {number} is out of range; allowed are {known.low} to {known.high}{unit}"
        numbers.append(number)
    if known.rising and any(one > other for one, other in zip(numbers, numbers[1:])):
        return f"{name}: {value!r} falls; it must rise (the kernel would take it as it is)"
    return None


def _check_word(name: str, words: list[str], choices: list[str] | None) -> str | None:
    if len(words) != 1:
        return f"{name}: {' '.join(words)!r} are {len(words)} words, it takes one"
    if choices is not None and words[0] not in choices:
        return f"{name}: {words[0]!r} is not available on this kernel; it has {', '.join(choices)}"
    return None


def _check_form(name: str, words: list[str], present: str | None) -> str | None:
    """A key without rules: as many numbers as there are now, and decimal."""
    now = (present or "").split()
    if not now or not all(_DECIMAL.match(word) for word in now):
        return None
    if len(words) != len(now):
        return f"{name}: {' '.join(words)!r} has {len(words)} parts, the present value has {len(now)}"
    for word in words:
        if not _DECIMAL.match(word):
            return f"{name}: {word!r} is no decimal number, the present value is {present!r}"
        if not -INT_MAX - 1 <= int(word) <= LONG_MAX:
            return f"{name}: {word} is larger than any kernel parameter"
    return None


#: fs.nr_open where nobody set it. (fs/file.c)
NR_OPEN = 1 << 20


def conflicts(values: dict[str, str]) -> list[str]:
    """Keys that are each fine and wrong together. values: what will be in force, by name."""
    found = []
    if values.get("net.ipv4.tcp_timestamps") == "0" and values.get("net.ipv4.tcp_tw_reuse") == "1":
        found.append(
            "net.ipv4.tcp_tw_reuse needs time stamps, and net.ipv4.tcp_timestamps is 0: set it to 1, or tcp_tw_reuse to 0"
        )
    for family in ("ipv4", "ipv6"):
        levels = [values.get(f"net.{family}.neigh.default.gc_thresh{number}") for number in (1, 2, 3)]
        numbers = [int(level) for level in levels if level is not None and level.isdigit()]
        if len(numbers) == 3 and sorted(numbers) != numbers:
            found.append(
                f"net.{family}.neigh.default.gc_thresh1, 2 and 3 must rise, they would be {', '.join(map(str, numbers))}"
            )
    for core, tcp in (("net.core.rmem_default", "net.core.rmem_max"), ("net.core.wmem_default", "net.core.wmem_max")):
        low, high = values.get(core, ""), values.get(tcp, "")
        if low.isdigit() and high.isdigit() and int(low) > int(high):
            found.append(f"{core} is {low}, above {tcp} {high}")
    maximum, buckets = (values.get(f"net.netfilter.nf_conntrack_{part}", "") for part in ("max", "buckets"))
    if maximum.isdigit() and buckets.isdigit() and int(maximum) > 8 * int(buckets):
        found.append(
            f"net.netfilter.nf_conntrack_max {maximum} over {buckets} hash buckets makes chains of "
            f"{int(maximum) // int(buckets)}; set net.netfilter.nf_conntrack_buckets too"
        )
    low, high = values.get("fs.nr_open", ""), values.get("fs.file-max", "")
    # The kernel's own nr_open is the same everywhere, its file-max grows with memory: a small machine has both untouched.
    if low.isdigit() and high.isdigit() and int(low) > int(high) and int(low) != NR_OPEN:
        found.append(f"fs.nr_open {low} (one process) is above fs.file-max {high} (all processes)")
    return found
