# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines from public documentation, read as trees of /sys and /proc, planned, and compared with their vendor's own advice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._evidence import nic_queues, topology
from ansible_collections.netops.fleet.plugins.module_utils._evidence.nic_queues import Nic
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist
from ansible_collections.netops.fleet.plugins.module_utils._tuning import irq, irq_plan
from ansible_collections.netops.fleet.plugins.module_utils._tuning.irq_plan import Options
from tests.unit.machines import RECORDED, Machine, build, recorded

topology_read, nic_read = topology.read, nic_queues.read
NAMES = sorted(path.stem for path in RECORDED.glob("*.json"))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Topology, list[Nic], dict[str, Any]]]:
    found = {}
    for name in NAMES:
        case = recorded(name)
        sys, proc = build(Machine(**case["machine"]), tmp_path_factory.mktemp(name))
        shape = topology.read(sys, proc)
        nics, gaps = nic_queues.read(shape, sys, proc)
        assert (shape.gaps, gaps) == ((), []), name
        found[name] = (shape, nics, case)
    return found


def by_node(shape: Topology, node: int, queues: int) -> list[int]:
    """set_irq_affinity_bynode.sh and ice's ``local``: the k-th interrupt goes to the k-th processor of the node's list."""
    found = shape.node(node)
    assert found is not None
    return [found.cpus[at % len(found.cpus)] for at in range(queues)]


def test_there_are_some() -> None:
    assert {"dgx_a100", "dgx_h100", "kunpeng_2s", "xeon_2s"} <= set(NAMES)
    assert all(recorded(name)["source"] and recorded(name)["advice"] for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_queue_is_seen_and_only_queues(name: str, machines: Any) -> None:
    shape, nics, case = machines[name]
    wanted = {one["name"]: one["queues"] for one in case["machine"]["devices"] if one.get("kind", "nic") == "nic"}
    assert {nic.name: len(nic.queues()) for nic in nics} == wanted
    for nic in nics:
        assert [irq.handler for irq in nic.irqs if irq.queue is None and not re.search("misc|async", irq.handler)] == []
        assert nic.device.node is not None and nic.device.cpus == shape.node(nic.device.node).cpus


@pytest.mark.parametrize("name", NAMES)
def test_one_nic_alone_is_placed_as_its_vendor_s_script_does(name: str, machines: Any) -> None:
    shape, nics, _case = machines[name]
    for nic in nics:
        plan = irq_plan.make(shape, [nic], Options())
        assert [one.cpu for one in plan.placements] == by_node(shape, nic.device.node, len(nic.queues())), nic.name


@pytest.mark.parametrize("name", NAMES)
def test_together_they_stay_on_their_nodes_and_share_them_better_than_the_script(name: str, machines: Any) -> None:
    shape, nics, _case = machines[name]
    plan = irq_plan.make(shape, nics, Options())
    assert plan.errors == []
    core = {cpu.number: cpu.core for cpu in shape.cpus}
    home = {nic.name: nic.device.node for nic in nics}
    assert all(one.node == home[one.nic] for one in plan.placements)
    ours = Counter(core[one.cpu] for one in plan.placements)
    scripts = Counter(core[cpu] for nic in nics for cpu in by_node(shape, nic.device.node, len(nic.queues())))
    assert max(ours.values()) <= max(scripts.values())


@pytest.mark.parametrize("name", NAMES)
def test_channels_are_at_most_the_cores_of_the_node(name: str, machines: Any) -> None:
    """What NVIDIA and Intel advise, and what ``channels: {combined: auto}`` counts."""
    shape, nics, _case = machines[name]
    for nic in nics:
        cores = len(shape.cores(nic.device.cpus))
        assert cores == shape_cores(shape, nic.device.node)
        plan = irq_plan.make(shape, [nic], Options())
        said = [line for line in plan.notes if "would do" in line]
        assert bool(said) == (len(nic.queues()) > cores)


def shape_cores(shape: Topology, node: int) -> int:
    return len({cpu.core for cpu in shape.cpus if cpu.node == node})


def test_dgx_h100_pairs_each_nic_with_its_gpu(machines: Any) -> None:
    shape, _nics, case = machines["dgx_h100"]
    assert [(node.number, cpulist.show(node.cpus)) for node in shape.nodes] == [(0, "0-55,112-167"), (1, "56-111,168-223")]
    for name, address in case["pairs"]:
        nic = shape.device(f"nic:{name}")
        near = {gpu.name for gpu in shape.gpus() if topology.relation(nic, gpu) == "PIX"}
        assert near == {address}
    far = topology.relation(shape.device("nic:ibp24s0"), shape.device("gpu:7"))
    assert far == "SYS" and topology.relation(shape.device("nic:ibp24s0"), shape.device("gpu:3")) == "NODE"


def test_dgx_a100_processors_near_each_gpu(machines: Any) -> None:
    shape, _nics, case = machines["dgx_a100"]
    assert len(shape.nodes) == 8
    for address, cpus in case["affinity"].items():
        assert cpulist.show(shape.device(f"gpu:{address}").cpus) == cpus


def test_the_module_s_plan_of_a_whole_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan, what is left and why, and how far each GPU is from each NIC."""
    sys, proc = build(Machine(**recorded("dgx_h100")["machine"]), tmp_path)
    managed = Path(proc) / "irq/101/smp_affinity_list"
    managed.chmod(0o444)
    monkeypatch.setattr(irq.topology, "read", lambda: topology_read(sys, proc))
    monkeypatch.setattr(irq.nic_queues, "read", lambda shape: nic_read(shape, sys, proc))
    result = irq.run(irq.Options(nics=["ibp24s0", "ibp64s0"], reserve="0-1", folder=str(tmp_path / "none")), "planned", False)
    assert result["changed"] and len(result["plan"]) == 2 * 63
    assert {one["cpu"] for one in result["plan"][1:]} <= {*range(2, 56), *range(114, 168)}
    assert len(result["left"]) == 1
    assert result["left"][0].startswith("irq 101 (ibp24s0 mlx5_comp0@pci:0000:18:00.0): the kernel manages it")
    near = {nic["name"]: [gpu for gpu, how in nic["gpus"].items() if how == "PIX"] for nic in result["facts"]["nics"]}
    assert near == {"ibp24s0": ["0000:1b:00.0"], "ibp64s0": ["0000:43:00.0"]}
    assert {one["kind"] for one in result["changes"]} >= {"irq", "nic"} and not (tmp_path / "none").exists()


def test_intel_s_xps_is_ours_where_each_core_has_a_queue(machines: Any) -> None:
    """set_irq_affinity -x gives queue k the processor of its interrupt; ours adds that core's second thread."""
    shape, nics, _case = machines["xeon_2s"]
    nic = next(one for one in nics if one.name == "ens801f0")
    plan = irq_plan.make(shape, [nic], Options())
    served = {one.queue: one.cpu for one in plan.placements}
    for one in plan.steering:
        queue = int(re.findall(r"tx-(\d+)", one.setting)[0])
        assert served[queue] in cpulist.parse(one.value) and served[queue] + 48 in cpulist.parse(one.value)
