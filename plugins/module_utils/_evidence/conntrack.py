# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The connection-tracking table: how full it is, and what it could not take during a window."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap, Section
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs

#: Columns of /proc/net/stat/nf_conntrack that tell of a table in trouble.
STAT = ("drop", "early_drop", "insert_failed", "search_restart", "invalid", "error", "clash_resolve", "chaintoolong")


@dataclass
class Snapshot:
    """The counters at the begin of a window; None when they could not be read."""

    sums: dict[str, int] | None
    gaps: list[Gap] = field(default_factory=list)


class Conntrack:
    """``begin`` … ``end``: the table's level, and the counters' differences in between. Both readings are cheap."""

    def begin(self) -> Snapshot:
        sums, gap = _sums()
        return Snapshot(sums, [gap] if gap else [])

    def end(self, first: Snapshot) -> Section:
        """Data: ``{count, max, buckets, stat: {name: delta}}``, or null when the kernel tracks no connections.

        count and max are entries (max holds for the whole machine), buckets hash chains; each null when it could not be read.
        stat: null when it could not be read; a delta is null when the counter went back.
        """
        if procfs.text_or_none("/proc/sys/net/netfilter/nf_conntrack_max", 64) is None:
            return Section(None)
        section = Section(
            {
                "count": procfs.integer("/proc/sys/net/netfilter/nf_conntrack_count"),
                "max": procfs.integer("/proc/sys/net/netfilter/nf_conntrack_max"),
                "buckets": procfs.integer("/proc/sys/net/netfilter/nf_conntrack_buckets"),
                "stat": None,
            }
        )
        sums, gap = _sums()
        for one in [*first.gaps, gap][:1]:
            if one is not None:
                section.gaps.append(one)
        if sums is not None and first.sums is not None:
            section.data["stat"] = {
                name: delta if (delta := sums[name] - first.sums.get(name, 0)) >= 0 else None for name in STAT if name in sums
            }
        for name in ("count", "max", "buckets"):
            if section.data[name] is None:
                section.gap(f"conntrack.{name}", f"/proc/sys/net/netfilter/nf_conntrack_{name} could not be read")
        return section


def _sums() -> tuple[dict[str, int] | None, Gap | None]:
    path = "/proc/net/stat/nf_conntrack"
    try:
        return procfs.per_cpu_hex(procfs.text(path)), None
    except OSError as error:
        return None, Gap("conntrack.stat", procfs.reason(error, path))


def read() -> Section:
    """One reading: all differences are 0."""
    table = Conntrack()
    return table.end(table.begin())
