# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services and their nodes: what is read from a machine's files, and the findings that follow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge
from ansible_collections.netops.fleet.plugins.module_utils._evidence import locality
from ansible_collections.netops.fleet.plugins.module_utils._tuning import pages, place_plan
from tests.unit.hosts import healthy, listener

GIB_KB = 1 << 20
POOL = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB"
THP = "/sys/kernel/mm/transparent_hugepage"


def service(**more: Any) -> dict[str, Any]:
    """Keeps to node 1 with all it has."""
    return {
        "unit": "model.service",
        "pid": 812,
        "process": "model",
        "cpus": "4-7",
        "memory_kb": {"0": 1000, "1": 8 * GIB_KB},
        "gpus": [{"address": "0000:81:00.0", "node": 1}],
        "declared": None,
        **more,
    }


def section(*services: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "nodes": [{"node": 0, "cpus": "0-3", "memory_kb": 64 * GIB_KB}, {"node": 1, "cpus": "4-7", "memory_kb": 64 * GIB_KB}],
        "nics": [{"name": "eth0", "node": 1, "up": True}, {"name": "eth1", "node": 0, "up": False}],
        "thp": {"enabled": "madvise", "defrag": "madvise"},
        "pages": [],
        "declared": None,
        "services": list(services),
        **more,
    }


def findings(found: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return judge(healthy(locality=found, **more))[0]


DECLARED = {"cpus": "4-7", "nodes": "1", "file": "/etc/systemd/system/model.service.d/zz-netops-fleet-placement.conf"}


@pytest.mark.parametrize(
    "found",
    [
        section(service()),
        section(service(declared=DECLARED)),
        section(service(cpus="0-7", memory_kb={"0": 9 * GIB_KB, "1": 0})),  # may run everywhere
        section(service(cpus="3-4", memory_kb={"0": 9 * GIB_KB})),  # on both nodes
        section(service(memory_kb={"0": 200 << 10, "1": 0})),  # too little to matter
        section(service(memory_kb=None, gpus=[{"address": "0000:01:00.0", "node": None}])),
        section(service(gpus=[{"address": "0000:01:00.0", "node": 0}, {"address": "0000:81:00.0", "node": 1}])),
        section(declared={"profile": "inference", "pages": {POOL: 8}, "set": {f"{THP}/enabled": "madvise"}},
                pages=[{"folder": POOL, "node": 1, "size_kb": 2048, "pages": 8}]),
        section(thp=None, declared={"profile": "own", "pages": {}, "set": {f"{THP}/enabled": "never"}}),
    ],
)  # fmt: skip
def test_a_host_that_is_well_has_no_finding(found: dict[str, Any]) -> None:
    assert findings(found) == []


def test_far_from_memory_and_gpu() -> None:
    one = service(memory_kb={"0": 8 * GIB_KB, "1": 1000}, gpus=[{"address": "0000:01:00.0", "node": 0}])
    (found,) = findings(section(one))
    assert (found["id"], found["grade"], found["subject"]) == ("service-off-node", "likely", "model.service")
    assert found["summary"] == "model.service runs on node 1 only, and its memory and GPU are on another node."
    assert "its memory: node 0 8192 MiB, node 1 0 MiB" in found["evidence"]
    assert "near: node:0" in found["fix"][0]
    (found,) = findings(section(service(memory_kb={"0": 8 * GIB_KB}, gpus=[])))
    assert "near: node:1" in found["fix"][0], "only its memory is away: that comes to where it runs"


def test_far_from_every_link_that_is_up() -> None:
    sockets = {
        "listeners": [listener(), listener(port=8000, unit="model.service")],
        "states": {"tcp": {}}, "ports": {}, "udp_drops": {},
    }  # fmt: skip
    far = [{"name": "eth0", "node": 0, "up": True}, {"name": "eth1", "node": 1, "up": False}]
    (found,) = findings(section(service(), nics=far), sockets=sockets)
    assert "it serves port 8000; links that are up: eth0 on node 0" in found["evidence"]
    for nics in ([*far, {"name": "eth2", "node": None, "up": True}], [{**far[0], "node": 1}], []):
        assert findings(section(service(), nics=nics), sockets=sockets) == []
    local = {**sockets, "listeners": [listener(), listener(port=8000, unit="model.service", address="127.0.0.1")]}
    assert findings(section(service(), nics=far), sockets=local) == []


def test_elsewhere_than_declared() -> None:
    (found,) = findings(section(service(cpus="0-7", declared=DECLARED)))
    assert (found["id"], found["grade"]) == ("service-off-node", "proven")
    assert found["fix"] == ["systemctl restart model.service"]


def test_huge_pages_unlike_what_was_declared() -> None:
    declared = {"profile": "inference", "pages": {POOL: 1024}, "set": {f"{THP}/enabled": "never", f"{THP}/defrag": "madvise"}}
    found = findings(section(declared=declared, pages=[{"folder": POOL, "node": 1, "size_kb": 2048, "pages": 700}]))
    assert [one["id"] for one in found] == ["huge-pages-short", "thp-against-profile"]
    assert found[0]["summary"] == "node 1 has 700 huge pages of 2048 kB, 1024 are declared."
    assert found[1]["summary"].endswith("for the profile inference: enabled is madvise, declared never.")
    assert found[1]["fix"][0] == f"echo never > {THP}/enabled"


# --- reading


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two nodes, a GPU on node 1; model.service keeps to node 0 and holds the GPU, other.service runs everywhere."""
    gpu = tmp_path / "sys/devices/pci0000:80/0000:81:00.0"
    write(
        tmp_path,
        {
            "sys/devices/system/cpu/online": "0-3\n",
            **{f"sys/devices/system/node/node{node}/cpulist": f"{2 * node}-{2 * node + 1}\n" for node in (0, 1)},
            **{f"sys/devices/system/node/node{node}/meminfo": f"Node {node} MemTotal: 4096 kB\n" for node in (0, 1)},
            "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages": "5\n",
            "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "0\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
            "sys/kernel/mm/transparent_hugepage/defrag": "[always] never\n",
            "sys/class/net/lo/x": "",
            f"{gpu.relative_to(tmp_path)}/class": "0x030200\n",
            f"{gpu.relative_to(tmp_path)}/numa_node": "1\n",
            f"{gpu.relative_to(tmp_path)}/local_cpulist": "2-3\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/system.slice/model.service/cgroup.procs": "812\n813\n",
            "sys/fs/cgroup/system.slice/model.service/memory.numa_stat": "anon N0=4096 N1=1048576\nfile N0=4096 N1=0\nsock N0=9",
            "sys/fs/cgroup/system.slice/other.service/cgroup.procs": "900\n",
            "proc/812/status": "Name:\tmodel\nCpus_allowed_list:\t0-1\n",
            "proc/812/comm": "model\n",
            "proc/900/status": "Name:\tother\nCpus_allowed_list:\t0-3\n",
            "proc/driver/nvidia/gpus/0000:81:00.0/information": "Model: x\nDevice Minor: \t 0\n",
            f"etc/systemd/system/model.service.d/{locality.DROP_IN}": "[Service]\nCPUAffinity=\nCPUAffinity=2-3\nNUMAMask=1",
        },
    )
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices/0000:81:00.0").symlink_to(gpu)
    (tmp_path / "proc/813/fd").mkdir(parents=True)
    for number, target in enumerate(("/dev/nvidia0", "/dev/nvidiactl", "socket:[1]")):
        os.symlink(target, tmp_path / f"proc/813/fd/{number}")
    return tmp_path


def read(tree: Path) -> dict[str, Any]:
    found = locality.read(str(tree / "sys"), str(tree / "proc"), str(tree / "etc"))
    assert found.gaps == []
    data: dict[str, Any] = found.data
    return data


def test_what_is_read(tree: Path) -> None:
    found = read(tree)
    assert [node["cpus"] for node in found["nodes"]] == ["0-1", "2-3"]
    assert found["thp"] == {"enabled": "madvise", "defrag": "always"}
    assert [(pool["node"], pool["size_kb"], pool["pages"]) for pool in found["pages"]] == [(1, 2048, 5)]
    assert found["services"] == [
        {
            "unit": "model.service",
            "pid": 812,
            "process": "model",
            "cpus": "0-1",
            "memory_kb": {"0": 8, "1": 1024},
            "gpus": [{"address": "0000:81:00.0", "node": 1}],
            "declared": {
                "cpus": "2-3",
                "nodes": "1",
                "file": f"{tree}/etc/systemd/system/model.service.d/zz-netops-fleet-placement.conf",
            },
        }
    ]


def test_memory_of_programs_without_files(tree: Path) -> None:
    write(tree, {"sys/fs/cgroup/system.slice/model.service/memory.stat": "anon 4096\nfile 99999999\nshmem 8192\n"})
    assert locality.own_memory("/system.slice/model.service", str(tree / "sys")) == 12288
    assert locality.own_memory("/system.slice/other.service", str(tree / "sys")) is None
    assert locality.own_memory("", str(tree / "sys")) is None
    assert locality.memory_of("/system.slice/model.service", str(tree / "sys")) == {"0": 8, "1": 1024}
    (tree / "sys/fs/cgroup/cgroup.controllers").unlink()
    old = {"systemd/cgroup.procs": "", "memory/a/memory.stat": "rss 1\ntotal_rss 5\ntotal_shmem 6\n"}
    write(tree, {f"sys/fs/cgroup/{name}": text for name, text in old.items()})
    assert locality.own_memory("/a", str(tree / "sys")) == 11


def test_cgroup_1_counts_pages(tree: Path) -> None:
    page_kb = os.sysconf("SC_PAGE_SIZE") // 1024
    assert locality.numa_stat("total=5 N0=2 N1=3\nfile=1 N0=1 N1=0\n") == {"0": 2 * page_kb, "1": 3 * page_kb}
    assert locality.numa_stat("") is None
    (tree / "sys/fs/cgroup/cgroup.controllers").unlink()
    found = locality.read(str(tree / "sys"), str(tree / "proc"), str(tree / "etc"))
    assert found.data["services"] == [] and "no control groups are mounted" in found.gaps[0].why


def test_the_unit_that_is_written_is_the_unit_that_is_read(tree: Path) -> None:
    plan = pages.pages_plan.Plan(pages={POOL: 1024}, thp={f"{THP}/enabled": "never"})
    text = pages._unit_text(pages.Options(profile="inference"), plan)
    write(tree, {f"etc/systemd/system/{pages.UNIT}": text})
    assert read(tree)["declared"] == {"profile": "inference", "pages": {POOL: 1024}, "set": {f"{THP}/enabled": "never"}}
    assert (locality.DROP_IN, locality.UNIT) == (place_plan.DROP_IN, pages.UNIT)
