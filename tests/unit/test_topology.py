# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's shape: read from trees of other machines, and from this one with lscpu as the witness."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import topology
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist
from tests.unit.machines import Machine, build, put

NIC = {"name": "ens1", "path": ["pci0000:15", "0000:15:01.0", "0000:16:00.0", "0000:17:00.0", "0000:18:00.0"], "node": 0}
GPU = {
    "kind": "gpu", "name": "gpu", "path": ["pci0000:15", "0000:15:01.0", "0000:16:00.0", "0000:17:02.0", "0000:1b:00.0"],
    "node": 0, "class": "0x030200", "vendor": "0x10de",
}  # fmt: skip
FAR = {"kind": "gpu", "name": "gpu", "path": ["pci0000:97", "0000:97:01.0", "0000:98:00.0"], "node": 1, "class": "0x120000"}
VIRTIO = {"name": "eth0", "path": ["pci0000:00", "0000:00:03.0", "virtio1"], "driver": "virtio_net"}
BMC = {
    "kind": "vga",
    "name": "bmc",
    "path": ["pci0000:00", "0000:00:1c.0", "0000:02:00.0"],
    "class": "0x030000",
    "vendor": "0x1a03",
}


def machine(tmp_path: Path, **more: object) -> Topology:
    return topology.read(*build(Machine(**more), tmp_path))  # type: ignore[arg-type]


# ---- lists and masks


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0-3,8", (0, 1, 2, 3, 8)), ("", ()), ("\n", ()), ("(null)", ()), ("0-15:2/4", (0, 1, 4, 5, 8, 9, 12, 13)), ("5,0", (0, 5))],
)
def test_lists(text: str, wanted: tuple[int, ...]) -> None:
    assert cpulist.parse(text) == wanted


@pytest.mark.parametrize("text", ["3-1", "a", "-1", "0-99999999999", "0-3:0/2", "0-3:3/2", "1-"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        cpulist.parse(text)
    assert cpulist.parse_or_none(text) is None


@given(st.sets(st.integers(0, 600)))
def test_lists_and_masks_come_back(cpus: set[int]) -> None:
    assert set(cpulist.parse(cpulist.show(cpus))) == cpus
    assert set(cpulist.parse_mask(cpulist.show_mask(cpus))) == cpus


def test_a_mask_is_as_wide_as_the_kernel_s() -> None:
    assert cpulist.show_mask((0,), like="00000000,0000000f\n") == "00000000,00000001"
    assert cpulist.show_mask((1,), like="3") == "2"
    assert cpulist.show_mask((33,), like="ff,ffffffff") == "02,00000000"


# ---- trees


def test_two_packages_with_threads(tmp_path: Path) -> None:
    found = machine(tmp_path, packages=2, cores=4, threads=2, nodes=2)
    assert [node.cpus for node in found.nodes] == [(0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)]
    assert found.cores()[:2] == [(0, 8), (1, 9)] and len(found.cores()) == 8
    assert found.cores([8, 4]) == [(8,), (4,)]
    assert {cpu.package for cpu in found.cpus if cpu.node == 1} == {1}
    assert found.nodes[1].memory_bytes == 64 << 30 and found.nodes[1].distances == (21, 10)
    assert found.gaps == ()


def test_several_nodes_in_a_package(tmp_path: Path) -> None:
    found = machine(tmp_path, packages=2, cores=8, threads=2, nodes=8)
    assert [len(node.cpus) for node in found.nodes] == [4] * 8
    assert {cpu.package for cpu in found.cpus if cpu.node == 3} == {0}


def test_threads_numbered_side_by_side(tmp_path: Path) -> None:
    assert machine(tmp_path, cores=2, threads=4, adjacent=True).cores() == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_processors_set_aside(tmp_path: Path) -> None:
    sys, proc = build(Machine(cores=8, isolated="2-3", nohz_full="3-4"), tmp_path)
    groups = Path(sys) / "fs/cgroup"
    put(groups / "cpuset.cpus.effective", "0-7\n")
    for name, kind in (("rt", "isolated"), ("pods", "root"), ("pods/inner", "member"), ("bad", "root invalid (no cpus)")):
        put(groups / name / "cpuset.cpus.partition", f"{kind}\n")
        put(groups / name / "cpuset.cpus.effective", "7\n" if name == "rt" else "6\n")
    put(groups / "cpuset/slurm/cpuset.cpu_exclusive", "1\n")
    put(groups / "cpuset/slurm/cpuset.cpus", "5\n")
    found = topology.read(sys, proc)
    assert found.isolated == (2, 3, 7) and found.nohz_full == (3, 4)
    assert [(one.name, one.kind, one.cpus) for one in found.cpusets] == [
        ("pods", "root", (6,)),
        ("rt", "isolated", (7,)),
        ("slurm", "exclusive", (5,)),
    ]
    aside = found.set_aside()
    assert sorted(aside) == [2, 3, 4, 5, 6, 7]
    assert "cpuset pods" in aside[6] and "nohz_full" in aside[4] and "isolated" in aside[3]


def test_devices_and_how_far_they_are(tmp_path: Path) -> None:
    found = machine(tmp_path, packages=2, cores=4, nodes=2, devices=[NIC, GPU, FAR, VIRTIO, BMC])
    assert [one.name for one in found.nics()] == ["ens1", "eth0"]
    near, far = found.gpus()  # the BMC's VGA controller is none
    nic, virtio = found.nics()
    assert (nic.address, nic.node, nic.cpus, nic.root) == ("0000:18:00.0", 0, (0, 1, 2, 3), "pci0000:15")
    # A virtio NIC is the child of the PCI device that knows its place, and that one does not know it.
    assert (virtio.address, virtio.node, virtio.driver, virtio.cpus) == ("0000:00:03.0", None, "virtio_net", tuple(range(8)))
    assert topology.relation(nic, near) == "PIX" and topology.relation(nic, far) == "SYS"
    assert topology.relation(nic, virtio) == "?"
    assert found.device("gpu:1") == far and found.device("gpu:0000:1b:00.0") == near and found.device("nic:ens1") == nic
    for what in ("gpu:2", "nic:eth9", "disk:0"):
        with pytest.raises(LookupError, match=what):
            found.device(what)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (["r"], ["r"], "PIX"),
        (["r", "u", "d1"], ["r", "u", "d2"], "PIX"),
        (["r", "u", "d1", "u1", "e1"], ["r", "u", "d2", "u2", "e2"], "PXB"),
        (["r1"], ["r2"], "PHB"),
        ([], [], "PHB"),
    ],
)
def test_words_of_distance(one: list[str], other: list[str], wanted: str) -> None:
    first, second = (topology.Device("nic", "a", "x", 0, (), None, "pci0000:00", tuple(way)) for way in (one, other))
    assert topology.relation(first, second) == wanted


def test_a_bare_machine_is_read_with_its_gaps(tmp_path: Path) -> None:
    found = topology.read(str(tmp_path / "sys"), str(tmp_path / "proc"))
    assert found.online == () and {gap.what for gap in found.gaps} == {"topology.cpus", "topology.nics"}
    put(tmp_path / "proc/stat", "cpu  1\ncpu0 1\ncpu1 1\n")
    found = topology.read(str(tmp_path / "sys"), str(tmp_path / "proc"))
    assert found.online == (0, 1) and found.nodes[0].cpus == (0, 1) and found.cores() == [(0,), (1,)]


def test_it_comes_back_from_json(tmp_path: Path) -> None:
    found = machine(tmp_path, packages=2, cores=4, threads=2, nodes=2, isolated="1", devices=[NIC, GPU, FAR, VIRTIO])
    assert Topology.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(ValueError):
        Topology.from_dict({"cpus": []})


def test_this_machine_is_as_lscpu_says() -> None:
    said = subprocess.run(["lscpu", "-p=CPU,NODE,SOCKET"], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout
    rows = [line.split(",") for line in said.splitlines() if not line.startswith("#")]
    found = topology.read()
    assert [(cpu.number, cpu.node) for cpu in found.cpus] == [(int(row[0]), int(row[1] or 0)) for row in rows]
    assert len({cpu.package for cpu in found.cpus}) == len({row[2] for row in rows})
