# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU, memory, disks, mounts, RAID and the kernel's log: what is read from their files, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import machine
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import kernel_log
from ansible_collections.netops.fleet.plugins.module_utils._evidence import machine as reader
from ansible_collections.netops.fleet.plugins.module_utils._kernel import procfs
from tests.unit.hosts import healthy

MDSTAT = """Personalities : [raid1] [raid6]
md0 : active raid1 sdb1[1](F) sda1[0]
      976630464 blocks super 1.2 [2/1] [U_]
      bitmap: 2/8 pages [8KB], 65536KB chunk

md1 : active (auto-read-only) raid6 sdc1[0] sdd1[1] sde1[2] sdf1[3]
      1953260928 blocks level 6, 64k chunk, algorithm 2 [4/4] [UUUU]
      [=>...................]  resync =  9.9% (96800/976630) finish=12.0min speed=1000K/sec
unused devices: <none>
"""


def told(container: bool = False, **sections: Any) -> list[tuple[str, str, str]]:
    evidence = healthy(**sections)
    evidence["host"]["container"] = container
    return [(one.id, one.severity, one.subject) for one in machine.find(Facts(evidence))]


def test_raid() -> None:
    arrays = reader.mdstat(MDSTAT)
    assert arrays == [
        {"name": "md0", "level": "raid1", "wanted": 2, "active": 1, "rebuilding": False},
        {"name": "md1", "level": "raid6", "wanted": 4, "active": 4, "rebuilding": True},
    ]
    assert told(machine={"raid": arrays}) == [("raid-degraded", "warning", "md0")]
    assert reader.mdstat("") == []


def test_disks_count_whole_disks_only() -> None:
    content = (
        " 259 0 nvme0n1 100 0 800 500 50 0 400 300 0 100 800 0 0 0 0\n"
        " 259 1 nvme0n1p1 100 0 800 500 50 0 400 300 0 100 800\n 7 0 loop0 1 2 3 4 5 6 7 8 9 10 11\n 8 0 sda 1\n"
    )
    assert reader.diskstats(content) == {"nvme0n1": (150, 800)}


@pytest.mark.parametrize("content", ["", "some", "some avg10=x avg60=1", "full avg300=1.0"])
def test_pressure_of_another_form_is_nothing(content: str) -> None:
    assert reader.pressure(content) == {}


@pytest.mark.parametrize(
    ("avg10", "avg60", "severities"),
    [(99, 94.9, ["info"]), (99, 95, ["warning"]), (59.9, 99, []), (99, 59.9, []), (60, 60, ["info"])],
)
def test_cpu(avg10: float, avg60: float, severities: list[str]) -> None:
    section = {"pressure": {"cpu": {"some": {"avg10": avg10, "avg60": avg60}}}, "cpus": 4}
    assert [one[1] for one in told(machine=section)] == severities
    assert told(container=True, machine=section) == []


def test_mounts() -> None:
    mounts = [
        {"path": "/", "type": "ext4", "used": 0.949, "inodes": 0.1, "state": "ok"},
        {"path": "/var", "type": "ext4", "used": 0.2, "inodes": 0.95, "state": "ok"},
        {"path": "/log", "type": "xfs", "used": 1.0, "inodes": 0.1, "state": "ok"},
        {"path": "/data", "type": "nfs4", "used": None, "inodes": None, "state": "silent"},
        {"path": "/old", "type": "nfs", "used": None, "inodes": None, "state": "stale file handle"},
        {"path": "/mine", "type": "fuse.sshfs", "used": None, "inodes": None, "state": "permission denied"},
    ]
    assert told(machine={"mounts": mounts}) == [
        ("mount-full", "warning", "/var"),
        ("mount-full", "critical", "/log"),
        ("mount-stale", "critical", "/data"),
        ("mount-stale", "critical", "/old"),
    ]


def test_kernel_log_takes_the_last_hour_and_no_other_lines() -> None:
    lines = [
        b"4,1,1000000,-;Out of memory: Killed process 1 (old)",
        b"4,2,7200000000,-;Out of memory: Killed process 812 (model-server) total-vm:1kB\n SUBSYSTEM=x",
        b"6,3,7200000000,-;eth0: Link is Down",
        b"broken Link is Down",
        b"6,4,x,-;Link is Down",
        b"6,5,7200000000,-;INFO: task nfsd:1 blocked for more than 120 seconds.",
        b"6,6,7200000000,-;a line about nothing",
    ]
    found = {one["kind"]: one for one in kernel_log.kinds(b"\n".join(lines) + b"\n", 7260.0)}
    assert set(found) == {"oom", "link_down", "hang"}
    assert found["oom"] == {
        "kind": "oom",
        "count": 1,
        "ago_s": 60.0,
        "sample": "Out of memory: Killed process 812 (model-server) total-vm:1kB",
    }
    assert [one[0] for one in told(kernel_log=list(found.values()))] == ["oom-killed", "kernel-hangs"]
    assert told(container=True, kernel_log=list(found.values())) == []


def test_descriptors_and_quota() -> None:
    process = {"pid": 7, "process": "python3", "unit": "model-server.service", "open": 900, "limit": 1000}
    section = {
        "files": {"open": 10, "max": 1000},
        "processes": [process, {**process, "pid": 8, "open": 899}],
        "groups": [{"cgroup": "/a", "periods": 4, "throttled": 1}, {"cgroup": "/b", "periods": 100, "throttled": 24}],
    }
    assert [one[0] for one in told(machine=section)] == ["descriptors-exhausted", "service-throttled"]


NFS = [
    b"4,1,1000000000,-;nfs: server 10.0.0.1 not responding, still trying",
    b"4,2,1005000000,-;nfs: server 10.0.0.1 OK",
    b"4,3,1010000000,-;nfs: server 10.0.0.2 not responding, still trying",
    b"4,4,1020000000,-;nfs: server 10.0.0.1 not responding, timed out",
    b"4,5,1030000000,-;nfs: server 10.0.0.2 OK",
    b"4,6,1040000000,-;nfs: server 10.0.0.1 OK",
]
CEPH = [
    b"4,1,1000000000,-;ceph: mds0 hung",
    b"4,2,1001000000,-;libceph: mon1 (1)10.0.0.7:6789 session lost, hunting for new mon",
    b"6,3,1002000000,-;libceph: mon0 (1)10.0.0.6:6789 session established",
    b"6,4,1003000000,-;ceph: mds1 came back",
    b"6,5,1004000000,-;ceph: mds0 came back",
]
MOUNT = {"path": "/nfs", "type": "nfs4", "used": 0.1, "inodes": None, "state": "ok"}


@pytest.mark.parametrize(
    ("lines", "severities"),
    [
        (NFS[:1], ["critical"]),
        (NFS[:2], ["info"]),
        (NFS[:3], ["critical"]),
        (NFS[:5], ["critical"]),
        (NFS, ["info"]),
        (NFS[1:2], []),
        (CEPH[:1], ["critical"]),
        (CEPH[1:2], ["critical"]),
        (CEPH[1:3], ["info"]),
        (CEPH[:4], ["critical"]),
        (CEPH, ["info"]),
        (NFS[:1] + CEPH, ["info", "critical"]),
    ],
)
def test_a_server_that_answers_again_is_no_stale_mount(lines: list[bytes], severities: list[str]) -> None:
    section = kernel_log.kinds(b"\n".join(lines) + b"\n", 1100.0)
    assert told(kernel_log=section) == [("mount-stale", one, "a network file system") for one in severities]


def test_what_is_said_of_a_server_that_was_silent() -> None:
    (one,) = kernel_log.kinds(b"\n".join(NFS) + b"\n", 1100.0)
    assert (one["count"], one["ago_s"], one["back_s"]) == (3, 80.0, 60.0)
    (found,) = machine.find(Facts(healthy(kernel_log=[one])))
    assert found.summary == "A network file system (nfs) did not answer 80 s ago; its server answered again 60 s ago."


@pytest.mark.parametrize(
    ("mounts", "ago", "expected"),
    [
        ([MOUNT], 30, ("proven", "info")),
        ([{**MOUNT, "state": "permission denied"}], 30, ("proven", "info")),
        ([MOUNT, {**MOUNT, "path": "/two", "state": "input/output error"}], 3000, ("proven", "critical")),
        ([{**MOUNT, "type": "ceph"}], 30, ("proven", "critical")),
        ([{**MOUNT, "type": "ceph"}], 3000, ("likely", "warning")),
        ([], 3000, ("likely", "warning")),
    ],
)
def test_a_silent_server_and_what_is_mounted(mounts: list[dict[str, Any]], ago: int, expected: tuple[str, str]) -> None:
    section = kernel_log.kinds(NFS[0] + b"\n", 1000.0 + ago)
    found = machine.find(Facts(healthy(kernel_log=section, machine={"mounts": mounts})))
    assert [(one.grade, one.severity) for one in found] == [expected]


@pytest.mark.parametrize(
    ("ago", "entries", "expected"),
    [
        (30, None, ("proven", "critical")),
        (3000, None, ("likely", "warning")),
        (3000, 820, ("proven", "critical")),
        (30, 12, ("likely", "warning")),
        (3000, 12, ("likely", "info")),
    ],
)
def test_a_table_that_was_full_is_not_said_to_be_full_now(ago: int, entries: int | None, expected: tuple[str, str]) -> None:
    one = {"count": 3, "ago_s": float(ago), "sample": "table full"}
    section = [
        {"kind": "neighbours", "table": entries and {"entries": entries, "limit": 1024}, **one},
        {"kind": "conntrack", **one},
    ]
    tracked = {"count": entries, "max": 1024 if entries else None, "stat": None}
    found = machine.find(Facts(healthy(kernel_log=section, conntrack=tracked)))
    assert [one.id for one in found] == ["neighbour-table-full", "conntrack-nearly-full"]
    for finding in found:
        assert (finding.grade, finding.severity) == expected
        assert ("30 s ago" if ago == 30 else "50 min ago") in finding.summary
        assert entries is None or f"holds {entries} of 1024 entries now" in finding.summary


def test_the_neighbour_table_is_read_when_the_log_calls_it_full() -> None:
    """The machine's table, as ``ip`` of the initial namespace is bound by; elsewhere its limit is not seen."""
    limit = procfs.integer("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    found = kernel_log.table("neighbour: arp_cache: neighbor table overflow!")
    assert (found and found["limit"]) == limit
    assert found is None or 0 <= found["entries"] <= 1 << 24
