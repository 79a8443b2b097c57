# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""What starves programs: CPU, memory, disks, mounts, descriptors, and what the kernel logged about them. (D22, D23, D29)"""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Percent of the time in which a task waited for a CPU; the second is a finding that matters by itself.
CPU_BUSY, CPU_STARVED = 60.0, 95.0
MEMORY_LEAST, MEMORY_PRESSURE = 0.03, 10.0
#: Milliseconds a disk may take, and how many operations in the window say so.
DISK_MS, DISK_LEAST = 200.0, 5
MOUNT_SHARE, FILES_SHARE, THROTTLED_SHARE = 0.95, 0.9, 0.25
#: A line of the kernel's log is taken for the present so many seconds, and a table for nearly full from this share on.
PRESENT, FILLED = 300.0, 0.8
#: Losses of carrier within an hour from which on a link flaps.
FLAPS = 4


def find(facts: Facts) -> list[Finding]:
    found = kernel_log(facts)
    data: dict[str, Any] | None = facts.section("machine")
    if data:
        found += _shared(facts, data) + _mounts(data) + _descriptors(data) + _throttled(data) + _raid(data)
    return found


def _shared(facts: Facts, data: dict[str, Any]) -> list[Finding]:
    """CPU, memory and disks are the machine's: a container cannot tell whose load it is."""
    if (facts.evidence.get("host") or {}).get("container"):
        return []
    return _cpu(data) + _memory(data) + _disks(data)


def _cpu(data: dict[str, Any]) -> list[Finding]:
    some = ((data.get("pressure") or {}).get("cpu") or {}).get("some") or {}
    if min(some.get("avg10", 0.0), some.get("avg60", 0.0)) < CPU_BUSY:
        return []
    return [
        Finding(
            "cpu-starved",
            "likely",
            "warning" if some["avg60"] >= CPU_STARVED else "info",
            "CPU",
            f"Programs wait for a CPU {some['avg60']:.0f} % of the time: answers are late though the network is well.",
            [f"pressure of CPU, some: {some['avg10']} % of 10 s, {some['avg60']} % of 60 s, {data.get('cpus')} CPUs"],
            ["top -b -n 1 -o %CPU | head -20"],
            ["D11", "D29"],
        )
    ]


def _memory(data: dict[str, Any]) -> list[Finding]:
    memory = data.get("memory") or {}
    total, available = memory.get("total_kb"), memory.get("available_kb")
    full = ((data.get("pressure") or {}).get("memory") or {}).get("full") or {}
    out = []
    if (total and available is not None and available < MEMORY_LEAST * total) or full.get("avg10", 0.0) >= MEMORY_PRESSURE:
        out.append(
            Finding(
                "memory-short",
                "likely",
                "warning",
                "memory",
                f"Memory is nearly used up: {available or 0} kB of {total or 0} kB are left.",
                [
                    f"MemAvailable {available} kB of {total} kB",
                    f"pressure of memory, full: {full.get('avg10', 'not known')} % of 10 s",
                ],
                ["ps -eo pid,rss,comm --sort=-rss | head", "# swap, a limit for the largest, or more memory"],
                ["D11", "D29"],
            )
        )
    if data.get("oom_kills"):
        out.append(_oom(f"The kernel killed {data['oom_kills']} processes for lack of memory while this host was read.", []))
    return out


def _oom(summary: str, evidence: list[str]) -> Finding:
    return Finding(
        "oom-killed",
        "proven",
        "critical",
        "memory",
        summary,
        evidence,
        ["dmesg -T | grep -i 'killed process'", "# raise the unit's MemoryMax, or give the program less to do"],
        ["D29"],
    )


def _disks(data: dict[str, Any]) -> list[Finding]:
    return [
        Finding(
            "disk-slow",
            "proven",
            "warning",
            one["name"],
            f"{one['name']} takes {one['await_ms']:.0f} ms for an operation.",
            [f"{one['operations']} operations in {data.get('seconds')} s, {one['await_ms']} ms each"],
            [f"iostat -x 1 3 {word(one['name'])}", f"smartctl -H /dev/{word(one['name'])}"],
            ["D11", "D29"],
        )
        for one in data.get("disks") or []
        if one["await_ms"] > DISK_MS and one["operations"] >= DISK_LEAST
    ]


def _mounts(data: dict[str, Any]) -> list[Finding]:
    out = []
    for one in data.get("mounts") or []:
        path = str(one["path"])
        if one.get("state") == "silent" or "stale" in str(one.get("state")):
            out.append(_stale(path, f"{path} ({one['type']}): {one['state']} after 1 s", one["state"]))
            continue
        for share, what in ((one.get("used"), "space"), (one.get("inodes"), "inodes")):
            if share is not None and share >= MOUNT_SHARE:
                out.append(
                    Finding(
                        "mount-full",
                        "proven",
                        "critical" if share >= 0.999 else "warning",
                        path,
                        f"{path} has {1 - share:.1%} of its {what} left.",
                        [f"{path} ({one['type']}): {share:.1%} of {what} in use, a finding from {MOUNT_SHARE:.0%} on"],
                        [f"du -xh --max-depth=2 {word(path)} | sort -h | tail", "journalctl --disk-usage"],
                        ["D29"],
                    )
                )
    return out


def _stale(path: str, line: str, state: str) -> Finding:
    return Finding(
        "mount-stale",
        "proven",
        "critical",
        path,
        f"The file system at {path} does not answer: programs that touch it hang.",
        [line],
        ["# is its server up and reachable?", f"umount -l {word(path)}   # then mount it again"],
        ["D29", "D31"],
        {"state": state},
    )


def _descriptors(data: dict[str, Any]) -> list[Finding]:
    files = data.get("files") or {}
    lines = [(f"the machine (fs.file-max {files['max']})", files["open"], files["max"], "fs.file-max")] if files else []
    for one in data.get("processes") or []:
        who = f"{one.get('process') or '?'} (pid {one['pid']}" + (f", {one['unit']})" if one.get("unit") else ")")
        lines.append((who, one["open"], one["limit"], who))
    return [
        Finding(
            "descriptors-exhausted",
            "proven",
            "critical" if count >= limit - 1 else "warning",
            subject,
            f"{who} has {count} of {limit} file descriptors open: without one, no connection is accepted.",
            [f"{count} open, limit {limit}, a finding from {FILES_SHARE:.0%} on"],
            ["sysctl -w fs.file-max=2097152"]
            if subject == "fs.file-max"
            else [
                "# raise LimitNOFILE= in its unit and restart it; does it leak?",
                "ls -l /proc/PID/fd | awk '{print $NF}' | sort | uniq -c",
            ],
            ["D29", "T05"],
        )
        for who, count, limit, subject in lines
        if limit > 0 and count >= FILES_SHARE * limit
    ]


def _throttled(data: dict[str, Any]) -> list[Finding]:
    return [
        Finding(
            "service-throttled",
            "proven",
            "warning",
            one["cgroup"],
            f"The CPU quota stopped {one['cgroup']} in {one['throttled']} of {one['periods']} periods: it answers late.",
            [f"nr_throttled grew by {one['throttled']}, nr_periods by {one['periods']} while this host was read"],
            ["# raise CPUQuota= of its unit, or the container's limit"],
            ["D11", "D29"],
        )
        for one in data.get("groups") or []
        if one["periods"] >= 3 and one["throttled"] >= THROTTLED_SHARE * one["periods"]
    ]


def _raid(data: dict[str, Any]) -> list[Finding]:
    return [
        Finding(
            "raid-degraded",
            "proven",
            "warning",
            one["name"],
            f"{one['name']} ({one['level']}) runs with {one['active']} of {one['wanted']} disks"
            + (", and is being rebuilt." if one.get("rebuilding") else "."),
            [f"/proc/mdstat: [{one['wanted']}/{one['active']}]"],
            [f"mdadm --detail /dev/{word(one['name'])}"],
            ["D22"],
        )
        for one in data.get("raid") or []
        if one.get("wanted") and one["active"] < one["wanted"]
    ]


def _said(one: dict[str, Any]) -> str:
    return f"{one['count']} lines in the last hour, the last {one['ago_s']:.0f} s ago: {one['sample']}"


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _since(said: dict[str, Any], entries: int | None, limit: int | None) -> tuple[str, str, str]:
    """(grade, severity, when it was full and what it holds now) of a table that the log calls full.

    The entries of another network namespace can fill it, and are not always counted here: what was full just now stays a warning.
    """
    recent = said["ago_s"] <= PRESENT
    when = _ago(said["ago_s"])
    if entries is None or not limit:
        return ("proven", "critical", when) if recent else ("likely", "warning", when)
    now = f"{when}, and holds {entries} of {limit} entries now"
    if entries >= FILLED * limit:
        return "proven", "critical", now
    return "likely", "warning" if recent else "info", now


def _silent(facts: Facts, one: dict[str, Any]) -> Finding:
    """A server of a network file system that the log calls silent: until it is back, or what is mounted of its kind answers."""
    system = str(one.get("system") or "nfs")
    mounts = [mount for mount in (facts.section("machine") or {}).get("mounts") or [] if str(mount["type"]).startswith(system)]
    answering = [str(mount["path"]) for mount in mounts if mount.get("state") in ("ok", "permission denied")]
    back = one.get("back_s")
    finding = _stale("a network file system", _said(one), "not responding")
    if back is None and (not mounts or len(answering) < len(mounts)):
        old = one["ago_s"] > PRESENT and not mounts
        return dataclasses.replace(finding, grade="likely", severity="warning") if old else finding
    which = f"its server answered again {_ago(back)}" if back is not None else f"{', '.join(answering[:4])} answers now"
    return dataclasses.replace(
        finding,
        severity="info",
        summary=f"A network file system ({system}) did not answer {_ago(one['ago_s'])}; {which}.",
        fix=["# nothing now; if it comes again, look at its server and the way to it"],
        data={"state": "ok"},
    )


def kernel_log(facts: Facts) -> list[Finding]:
    """Lines of the last hour. In a container the log is the machine's, and says nothing about this host."""
    if (facts.evidence.get("host") or {}).get("container"):
        return []
    said = {one["kind"]: one for one in facts.items("kernel_log")}
    lines = {kind: [_said(one)] for kind, one in said.items()}
    out = []
    if "oom" in said:
        out.append(_oom(f"The kernel killed processes for lack of memory: {said['oom']['sample']}", lines["oom"]))
    out += [_silent(facts, one) for one in facts.items("kernel_log") if one["kind"] == "mount"]
    if "neighbours" in said:
        table = said["neighbours"].get("table") or {}
        grade, severity, now = _since(said["neighbours"], table.get("entries"), table.get("limit"))
        out.append(
            Finding(
                "neighbour-table-full",
                grade,
                severity,
                "net.ipv4.neigh.default.gc_thresh3",
                f"The neighbour table was full {now}: addresses in the own subnets are not reached while it is.",
                lines["neighbours"],
                [
                    "sysctl -w net.ipv4.neigh.default.gc_thresh1=8192 net.ipv4.neigh.default.gc_thresh2=32768",
                    "sysctl -w net.ipv4.neigh.default.gc_thresh3=65536   # and the same for net.ipv6",
                ],
                ["D19"],
            )
        )
    if "conntrack" in said:
        section = facts.section("conntrack") or {}
        grade, severity, now = _since(said["conntrack"], section.get("count"), section.get("max"))
        out.append(
            Finding(
                "conntrack-nearly-full",
                grade,
                severity,
                "net.netfilter.nf_conntrack_max",
                f"The connection table was full {now}: new connections are dropped while it is.",
                lines["conntrack"],
                ["sysctl -w net.netfilter.nf_conntrack_max=1048576", "# look for one source that opens too many"],
                ["D13", "D20"],
            )
        )
    if "gpu" in said:
        out.append(
            Finding(
                "gpu-error",
                "proven",
                "critical",
                "GPU",
                f"The driver reports errors of a GPU: {said['gpu']['sample']}",
                lines["gpu"],
                [
                    "nvidia-smi -q | grep -iA3 -e xid -e ecc",
                    "# the Xid's number tells whether a reset, a reboot or a replacement helps",
                ],
                ["D11"],
            )
        )
    if "nic" in said:
        out.append(
            Finding(
                "nic-fault",
                "proven",
                "warning",
                "network card",
                f"The driver of a network card reports a fault: {said['nic']['sample']}",
                lines["nic"],
                ["dmesg -T | grep -iE 'watchdog|mlx5|tx hang'", "# firmware, cable, then the card"],
                ["D23", "D31"],
            )
        )
    if said.get("link_down", {}).get("count", 0) >= FLAPS:
        out.append(
            Finding(
                "link-flapping",
                "proven",
                "warning",
                "link",
                f"A link went down {said['link_down']['count']} times within the last hour: {said['link_down']['sample']}",
                lines["link_down"],
                ["dmesg -T | grep -i 'link is'", "# cable, transceiver, switch port; optical power: ethtool -m LINK"],
                ["D23"],
            )
        )
    if "disk" in said:
        out.append(
            Finding(
                "disk-errors",
                "proven",
                "warning",
                "disk",
                f"A disk reports errors: {said['disk']['sample']}",
                lines["disk"],
                ["smartctl -a /dev/DISK"],
                ["D22", "D29"],
            )
        )
    if "hang" in said:
        out.append(
            Finding(
                "kernel-hangs",
                "likely",
                "warning",
                "kernel",
                f"The kernel reports tasks or CPUs that hang: {said['hang']['sample']}",
                lines["hang"],
                ["dmesg -T | grep -A20 -E 'blocked for more|soft lockup'"],
                ["D11", "D29"],
            )
        )
    return out
