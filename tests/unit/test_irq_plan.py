# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processor serves which queue: generated machines, and what drivers call their interrupts."""

from __future__ import annotations

import errno
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import nic_queues
from ansible_collections.netops.fleet.plugins.module_utils._evidence.nic_queues import Irq, Nic
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Cpu, Device, Node, Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist, irqs
from ansible_collections.netops.fleet.plugins.module_utils._tuning import irq_plan
from ansible_collections.netops.fleet.plugins.module_utils._tuning.irq_plan import Options, Plan


def shape(sockets: int, cores: int, threads: int, per_socket: int = 1, isolated: tuple[int, ...] = ()) -> Topology:
    """Threads numbered last; per_socket: nodes of a socket."""
    every = sockets * cores
    nodes = sockets * per_socket
    cpus = tuple(Cpu(n, n % every // cores, n % every, n % every * nodes // every) for n in range(every * threads))
    found = tuple(
        Node(at, tuple(cpu.number for cpu in cpus if cpu.node == at), 1 << 30, tuple(10 if o == at else 20 for o in range(nodes)))
        for at in range(nodes)
    )
    return Topology(cpus, found, isolated)


def nic(topology: Topology, name: str, node: int | None, queues: int, first: int = 100) -> Nic:
    home = topology.node(node) if node is not None else None
    near = home.cpus if home else topology.online
    device = Device("nic", name, name, node, near, "mlx5_core")
    found = tuple(Irq(first + n, f"mlx5_comp{n}@pci:{name}", n, topology.online) for n in range(queues))
    empty = tuple(() for _queue in range(queues))
    return Nic(device, name, True, found, empty, empty, (0,) * queues)


@st.composite
def machines(draw: st.DrawFn) -> tuple[Topology, list[Nic], Options]:
    """1 to 8 sockets, threads or not, isolated and reserved processors, 1 to 16 NICs, 1 to 256 queues."""
    sockets, cores, threads = draw(st.integers(1, 8)), draw(st.integers(1, 12)), draw(st.sampled_from([1, 2]))
    count = sockets * cores * threads
    seed = random.Random(draw(st.integers(0, 1 << 30)))
    isolated = tuple(sorted(seed.sample(range(count), draw(st.integers(0, count - 1)))))
    rest = [cpu for cpu in range(count) if cpu not in isolated]
    reserve = tuple(sorted(seed.sample(rest, draw(st.integers(0, len(rest) - 1)))))
    topology = shape(sockets, cores, threads, draw(st.sampled_from([1, 2])) if cores > 1 else 1, isolated)
    sizes = draw(st.lists(st.one_of(st.integers(1, 8), st.integers(1, 256)), min_size=1, max_size=16))
    homes = [*(node.number for node in topology.nodes), None]
    nics = [nic(topology, f"n{at:02}", seed.choice(homes), size, 1000 * at) for at, size in enumerate(sizes)]
    return topology, nics, Options(reserve=reserve)


def places(plan: Plan) -> dict[str, int | None]:
    return {one.name: one.cpu for one in plan.placements}


@settings(max_examples=150, deadline=None)
@given(machines())
def test_every_queue_is_placed_evenly_and_off_what_is_set_aside(machine: tuple[Topology, list[Nic], Options]) -> None:
    topology, nics, options = machine
    plan = irq_plan.make(topology, nics, options)
    assert plan.errors == []
    # every queue placed, once
    assert Counter(one.nic for one in plan.placements) == {one.name: len(one.irqs) for one in nics}
    used = {one.cpu for one in plan.placements}
    assert None not in used
    # no isolated or reserved processor
    assert not used & set(topology.isolated) and not used & set(options.reserve)
    assert used <= set(topology.online)
    # load of the cores of a node differs by at most one
    core = {cpu.number: cpu.core for cpu in topology.cpus}
    loads = Counter(core[one.cpu] for one in plan.placements if one.cpu is not None)
    assert {number: load for number, load in plan.load.items() if load} == loads
    for node in topology.nodes:
        mine = [load for number, load in plan.load.items() if number in node.cpus]
        assert not mine or max(mine) - min(mine) <= 1
    # near, where there is a near processor to use
    for one in plan.placements:
        home = next(each.device.node for each in nics if each.name == one.nic)
        if home is not None and any(number in topology.nodes[home].cpus for number in plan.load):
            assert one.node == home


@settings(max_examples=60, deadline=None)
@given(machines(), st.randoms(use_true_random=False))
def test_the_same_machine_gives_the_same_plan(machine: tuple[Topology, list[Nic], Options], mixer: random.Random) -> None:
    topology, nics, options = machine
    plan = irq_plan.make(topology, nics, options)
    mixed = list(nics)
    mixer.shuffle(mixed)
    # also when interrupts were renumbered and stand elsewhere, as after a reboot
    moved = [replace(one, irqs=tuple(replace(irq, number=irq.number + 7, cpus=(0,)) for irq in one.irqs)) for one in mixed]
    assert places(irq_plan.make(topology, moved, options)) == places(plan)


@settings(max_examples=60, deadline=None)
@given(machines(), st.integers(1, 256), st.sampled_from(["a", "zz"]))
def test_one_more_nic_moves_no_queue_of_the_others(machine: tuple[Topology, list[Nic], Options], queues: int, name: str) -> None:
    topology, nics, options = machine
    before = irq_plan.make(topology, nics, options)
    more = [nic(topology, name, topology.nodes[0].number, queues, 90000), *nics]
    after = irq_plan.make(topology, more, replace(options, order=before.order))
    assert places(before).items() <= places(after).items()
    assert after.order == (*before.order, name)


@settings(max_examples=60, deadline=None)
@given(machines())
def test_each_processor_sends_through_one_queue(machine: tuple[Topology, list[Nic], Options]) -> None:
    topology, nics, options = machine
    plan = irq_plan.make(topology, nics, options)
    for one in nics:
        maps = [cpulist.parse(each.value) for each in plan.steering if each.nic == one.name and "xps" in each.setting]
        if len(one.xps) > 1:
            assert sorted(cpu for cpus in maps for cpu in cpus) == list(topology.online)
        else:
            assert maps == []


def test_second_run_has_nothing_to_do() -> None:
    topology = shape(2, 8, 2)
    nics = [nic(topology, "a", 0, 8), nic(topology, "b", None, 1, 300)]
    first = irq_plan.make(topology, nics, Options())
    wanted = {(one.nic, one.irq.handler): (one.cpu,) for one in first.placements if one.cpu is not None}
    steered = {(one.nic, one.setting): one.value for one in first.steering}
    done = [
        replace(
            one,
            irqs=tuple(replace(irq, cpus=wanted[one.name, irq.handler]) for irq in one.irqs),
            rps=tuple(cpulist.parse(steered.get((one.name, f"rx-{at}.rps_cpus"), "")) for at in range(len(one.rps))),
            xps=tuple(cpulist.parse(steered.get((one.name, f"tx-{at}.xps_cpus"), "")) for at in range(len(one.xps))),
            flows=tuple(int(steered.get((one.name, f"rx-{at}.rps_flow_cnt"), "0")) for at in range(len(one.flows))),
        )
        for one in nics
    ]
    second = irq_plan.make(topology, done, Options())
    assert {one.action for one in second.placements} == {"none"}
    assert {one.to_dict()["action"] for one in second.steering} == {"none"}


def test_nics_of_a_node_share_its_cores() -> None:
    topology = shape(2, 4, 2)
    plan = irq_plan.make(topology, [nic(topology, "a", 0, 2), nic(topology, "b", 0, 2), nic(topology, "c", 1, 4)], Options())
    assert [one.cpu for one in plan.placements] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert plan.placements[0].why == "core 0: a core of the NIC's node"


def test_more_queues_than_cores_take_the_second_thread() -> None:
    topology = shape(1, 2, 2)
    plan = irq_plan.make(topology, [nic(topology, "a", 0, 5)], Options())
    assert [one.cpu for one in plan.placements] == [0, 1, 2, 3, 0]
    assert "more queues than cores" in plan.placements[2].why
    assert plan.notes == ["a has 5 queues for 2 usable cores; 2 would do"]


def test_a_core_with_an_isolated_thread_is_left_whole() -> None:
    topology = shape(1, 3, 2, isolated=(4,))
    assert [one.cpu for one in irq_plan.make(topology, [nic(topology, "a", 0, 3)], Options()).placements] == [0, 2, 3]


def test_all_second_threads_isolated_still_leaves_the_first() -> None:
    topology = shape(1, 2, 2, isolated=(2, 3))
    assert [one.cpu for one in irq_plan.make(topology, [nic(topology, "a", 0, 3)], Options()).placements] == [0, 1, 0]


def test_a_node_without_a_usable_processor_gives_way_to_the_nearest() -> None:
    topology = shape(3, 2, 1, isolated=(0, 1))
    nodes = (replace(topology.nodes[0], distances=(10, 30, 20)), *topology.nodes[1:])
    plan = irq_plan.make(replace(topology, nodes=nodes), [nic(topology, "a", 0, 2)], Options())
    assert [one.cpu for one in plan.placements] == [4, 5] and "node 2 is the nearest" in plan.placements[0].why


def test_nothing_left_is_an_error_that_says_so() -> None:
    topology = shape(1, 2, 1, isolated=(0,))
    plan = irq_plan.make(topology, [nic(topology, "a", 0, 2)], Options(reserve=(1,)))
    assert plan.placements == [] and "no processor is left" in plan.errors[0]


def test_managed_interrupts_are_left_with_the_reason() -> None:
    topology = shape(1, 2, 1)
    one = nic(topology, "a", 0, 2)
    one = replace(one, irqs=(replace(one.irqs[0], fixed=True), one.irqs[1]))
    plan = irq_plan.make(topology, [one], Options(unmovable=frozenset({"a mlx5_comp1@pci:a"})))
    assert [(each.action, each.cpu) for each in plan.placements] == [("leave", None)] * 2
    assert all("manages it" in each.why for each in plan.placements)


def test_one_queue_gets_help_by_software() -> None:
    topology = shape(2, 4, 2)
    plan = irq_plan.make(topology, [nic(topology, "a", 1, 1)], Options())
    assert {one.setting: one.value for one in plan.steering} == {"rx-0.rps_cpus": "5-7", "rx-0.rps_flow_cnt": "32768"}
    assert plan.flow_entries == 32768
    off = irq_plan.make(topology, [nic(topology, "a", 1, 1)], Options(rps="off"))
    assert [one.value for one in off.steering] == [""] and off.flow_entries is None
    assert irq_plan.make(topology, [nic(topology, "a", 1, 1)], Options(rps="keep")).steering == []
    assert irq_plan.make(shape(1, 1, 2), [nic(shape(1, 1, 2), "a", 0, 1)], Options()).steering == []


def test_accelerated_steering_gives_each_queue_its_table() -> None:
    topology = shape(1, 4, 1)
    plan = irq_plan.make(topology, [nic(topology, "a", 0, 3)], Options(arfs=True, xps="keep"))
    assert {one.setting: one.value for one in plan.steering} == {f"rx-{at}.rps_flow_cnt": "8192" for at in range(3)}


def test_a_nic_without_interrupts_is_explained() -> None:
    topology = shape(1, 2, 1)
    one = replace(nic(topology, "a", 0, 1), irqs=())
    notes = [irq_plan.make(topology, [each], Options()).notes[0] for each in (one, replace(one, up=False))]
    assert "no interrupt of a queue" in notes[0] and "is down" in notes[1]
    hyper = replace(one, device=replace(one.device, driver="hv_netvsc"))
    assert "VMBus" in irq_plan.make(topology, [hyper], Options()).notes[0]


# ---- names


@pytest.mark.parametrize(
    ("handler", "link", "queue"),
    [
        ("mlx5_comp12@pci:0000:18:00.0", "ens1", 12),
        ("mlx5_async0@pci:0000:18:00.0", "ens1", None),
        ("ens1f0np0-7", "ens1f0np0", 7),
        ("mlx4-1@0000:03:00.0", "ens1", 0),
        ("mlx4-async@pci:0000:03:00.0", "ens1", None),
        ("ice-ens801f0-TxRx-3", "ens801f0", 3),
        ("ice-0000:18:00.0:misc", "ens801f0", None),
        ("i40e-eno1-TxRx-63", "eno1", 63),
        ("i40e-0000:3b:00.0:misc", "eno1", None),
        ("i40e-eno1-fdir-TxRx-0", "eno1", None),
        ("iavf-ens1f1v3-TxRx-3", "ens1f1v3", 3),
        ("iavf-0000:3b:0b.0:mbx", "ens1f1v3", None),
        ("enp1s0-TxRx-5", "enp1s0", 5),
        ("enp1s0-rx-0", "enp1s0", 0),
        ("enp1s0-tx-0", "enp1s0", 0),
        ("eth0-Tx-Rx-6", "eth0", 6),
        ("ena-mgmnt@pci:0000:00:05.0", "eth0", None),
        ("eth0-fp-2", "eth0", 2),
        ("gve-ntfy-blk3@pci:0000:00:08.0", "eth0", 3),
        ("gve-ntfy-blk9@pci:0000:00:08.0", "eth0", 1),
        ("gve-mgmnt@pci:0000:00:08.0", "eth0", None),
        ("eth0-ntfy-block.5", "eth0", 5),
        ("virtio1-input.2", "eth0", 2),
        ("virtio1-output.2", "eth0", 2),
        ("virtio1-config", "eth0", None),
        ("virtio1-control", "eth0", None),
        ("eth0-rxtx-1", "eth0", 1),
        ("eth0-event-4", "eth0", None),
        ("mana_q3@pci:7870:00:00.0", "eth0", 3),
        ("mana_hwc@pci:7870:00:00.0", "eth0", None),
        ("eth2 (queue 4)", "eth2", 4),
        ("hns3-0000:7d:00.0-TxRx-9", "eth2", 9),
        ("rx-tx0-rxtx-1", "rx-tx0", 1),
        ("enp3s0", "enp3s0", 0),
        ("nvme0q3", "eth0", None),
    ],
)
def test_names_of_drivers(handler: str, link: str, queue: int | None) -> None:
    assert nic_queues.classify(handler, link, 8) == queue


def test_a_handler_named_like_the_link_is_its_queue_only_alone() -> None:
    assert nic_queues._label([(5, "eth0")], "eth0", 1) == {5: 0}
    assert nic_queues._label([(5, "eth0"), (6, "eth0-TxRx-0")], "eth0", 1) == {5: None, 6: 0}


TABLE = """            CPU0       CPU1
   8:          0          0  IR-IO-APIC    8-edge      rtc0
  34:          1          2  IR-PCI-MSIX-0000:18:00.0    1-edge      mlx5_comp0@pci:0000:18:00.0
  35:          1          2  PCI-MSI 524289-edge      eth0-TxRx-0
  36:          1          2  PCI-MSI-edge      eth5-rx-3
  37:          1          2  IR-PCI-MSI 1-edge      eth2 (queue 4)
  38:          0          0  GICv3  33 Level     uart-pl011
  39:          0          0  PCI-MSI 5-edge
  40:          0          0  xen-pirq-msi-x     eth0-TxRx-1
  41:          0          0  IO-APIC   11-fasteoi   virtio2, uhci_hcd:usb1
 NMI:          0          0   Non-maskable interrupts
 ERR:          0
"""


def test_the_table_of_interrupts() -> None:
    assert irqs.table(TABLE) == {
        8: "rtc0",
        34: "mlx5_comp0@pci:0000:18:00.0",
        35: "eth0-TxRx-0",
        36: "eth5-rx-3",
        37: "eth2 (queue 4)",
        38: "uart-pl011",
        40: "eth0-TxRx-1",
        41: "virtio2, uhci_hcd:usb1",
    }


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EIO, "manages it"),
        (errno.EPERM, "manages it"),
        (errno.ENOSPC, "no interrupt vector left"),
        (errno.EROFS, "not in a container"),
        (errno.EINVAL, "online"),
        (errno.EOVERFLOW, "beyond the last processor"),
        (errno.ENOENT, "gave its interrupts back"),
    ],
)
def test_refusals_are_explained(code: int, said: str) -> None:
    text = irqs.explain(OSError(code, "the system's word"))
    assert said in text and errno.errorcode[code] in text
    assert irqs.explain(OSError(errno.EFAULT, "Bad address")) == "Bad address"


@given(st.text(max_size=300))
def test_a_damaged_table_is_read_without_an_error(text: str) -> None:
    assert isinstance(irqs.table(text), dict)
