# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where services and huge pages belong: plain data in, plain data out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import topology as topology_reader
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Cpu, Cpuset, Device, Node, Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist
from ansible_collections.netops.fleet.plugins.module_utils._safety import pages as page_objects
from ansible_collections.netops.fleet.plugins.module_utils._safety import service
from ansible_collections.netops.fleet.plugins.module_utils._safety.change import ChangeError
from ansible_collections.netops.fleet.plugins.module_utils._tuning import pages_plan, place_plan, placement, unit_files
from ansible_collections.netops.fleet.plugins.module_utils._tuning.place_plan import NoPlace, Running, Unit, Want
from tests.unit.machines import Machine, build

GIB = 1 << 30


def machine(
    nodes: int = 2, cores: int = 4, smt: bool = True, memory: int = 64 * GIB, devices: tuple[Device, ...] = ()
) -> Topology:
    """Sockets of one node each; the second threads are numbered after all first ones, as on most servers."""
    total = nodes * cores
    cpus = [Cpu(number, number // cores, number, number // cores) for number in range(total)]
    if smt:
        cpus += [Cpu(total + number, number // cores, number, number // cores) for number in range(total)]
    found = [
        Node(
            number,
            tuple(cpu.number for cpu in cpus if cpu.node == number),
            memory,
            tuple(10 if other == number else 21 for other in range(nodes)),
        )
        for number in range(nodes)
    ]
    gpus = tuple(
        Device("gpu", f"0000:{16 * number:02x}:00.0", f"0000:{16 * number:02x}:00.0", number, found[number].cpus)
        for number in range(nodes)
    )
    return Topology(tuple(cpus), tuple(found), devices=gpus + devices)


def place(topology: Topology, reserve: tuple[int, ...] = (), **given_: object) -> place_plan.Place:
    return place_plan.place(topology, Want("model.service", **given_), reserve)  # type: ignore[arg-type]


# --- the place


@st.composite
def machines(draw: st.DrawFn) -> Topology:
    """1 to 8 nodes, threads or not, some processors isolated, nodes without processors or memory, devices that know no node."""
    found = machine(draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.booleans()))
    online = found.online
    isolated = tuple(sorted(draw(st.sets(st.sampled_from(online), max_size=len(online)))))
    nohz = tuple(sorted(draw(st.sets(st.sampled_from(online), max_size=2))))
    exclusive = tuple(sorted(draw(st.sets(st.sampled_from(online), max_size=2))))
    nodes = list(found.nodes)
    for number in range(draw(st.integers(0, 2))):
        extra = Node(len(nodes), (), draw(st.sampled_from([0, 96 * GIB])), (*(14 for _ in nodes), 10))
        nodes = [replace(node, distances=(*node.distances, 14 + number)) for node in nodes] + [extra]
    if sum(1 for node in nodes if node.memory_bytes) > 1 and draw(st.booleans()):
        nodes[0] = replace(nodes[0], memory_bytes=0)
    nic = Device("nic", "eth0", None, draw(st.sampled_from([None, *range(len(nodes))])), online)
    return replace(
        found,
        nodes=tuple(nodes),
        isolated=isolated,
        nohz_full=nohz,
        cpusets=(Cpuset("pods", exclusive, "root"),),
        devices=(*found.devices, nic),
    )


@given(
    machines(),
    st.data(),
    st.sampled_from(["bind", "preferred", "interleave", "local", "keep"]),
    st.booleans(),
)
def test_a_place_is_of_one_node_and_usable(topology: Topology, data: st.DataObject, policy: str, smt: bool) -> None:
    online = topology.online
    nears = ["nic:eth0", *(f"gpu:{number}" for number in range(len(topology.gpus())))]
    nears += [f"node:{node.number}" for node in topology.nodes]
    near = data.draw(st.sampled_from(nears))
    reserve = tuple(data.draw(st.sets(st.sampled_from(online), max_size=3)))
    want = Want("model.service", near, policy=policy, smt=smt)
    try:
        found = place_plan.place(topology, want, reserve)
    except NoPlace as error:
        unknown = near == "nic:eth0" and topology.device(near).node is None and len(topology.nodes) > 1
        left = set(online) - set(topology.set_aside()) - set(reserve)
        assert unknown or any(not set(node.cpus) & left for node in topology.nodes if node.cpus), error
        return
    assert place_plan.place(topology, want, reserve) == found
    node = topology.node(found.node) if found.node is not None else None
    assert node is not None
    if found.cpus is not None:
        assert found.cpus and not set(found.cpus) & (set(topology.set_aside()) | set(reserve))
        homes = {cpu.node for cpu in topology.cpus if cpu.number in set(found.cpus)}
        assert len(homes) == 1
        assert homes == {node.number} or not node.cpus
        if not smt:
            cores = [cpu.core for cpu in topology.cpus if cpu.number in set(found.cpus)]
            assert len(cores) == len(set(cores))
    else:
        assert len(topology.nodes) == 1
    if policy == "keep" or len(topology.nodes) == 1:
        assert found.memory is None
    elif policy == "local":
        assert found.memory == ()
    else:
        assert found.memory is not None and len(found.memory) == 1
        home = topology.node(found.memory[0])
        assert home is not None and home.memory_bytes != 0
        assert home == node or node.memory_bytes == 0


@given(machines(), st.data())
def test_what_is_written_is_what_systemd_would_have_in_force(topology: Topology, data: st.DataObject) -> None:
    """Whatever other files say: the plan's own words are in force alone, or the plan refuses and names the file."""
    node = data.draw(st.sampled_from(topology.nodes))
    want = Want("model.service", f"node:{node.number}", memlock="infinity")
    lines = st.sampled_from(
        ["CPUAffinity=0", "CPUAffinity=", "NUMAMask=0", "NUMAPolicy=interleave", "LimitMEMLOCK=64K", "Nice=5"]
    )
    names = data.draw(st.lists(st.sampled_from(["10-a.conf", "override.conf", "zz-z.conf", "zzz.conf"]), unique=True))
    files = [("/usr/lib/systemd/system/model.service", "[Service]\nExecStart=/bin/true\n")]
    files += [
        (f"/etc/systemd/system/model.service.d/{name}", "[Service]\n" + "\n".join(data.draw(st.lists(lines, max_size=3))))
        for name in names
    ]
    item = place_plan.make(topology, want, Unit("model.service", tuple(files)))
    if item.action == "refuse":
        assert "zz" in item.reason or "isolated" in item.reason, item.reason
        return
    own = place_plan.drop_in("model.service")
    after = unit_files.effective(unit_files.order([*files, (own, item.text)]))
    written = {one.key for one in unit_files.settings(own, item.text)}
    for key in written:
        assert [one.file for one in after.get(key, [])] in ([own], []), (key, after)
    again = place_plan.make(topology, want, Unit("model.service", (*files, (own, item.text))))
    assert again.action == "none" and again.text == item.text and again.replaces == item.replaces


def test_near_a_gpu() -> None:
    found = place(machine(), near="gpu:1")
    assert (found.node, found.cpus, found.memory) == (1, (4, 5, 6, 7, 12, 13, 14, 15), (1,))
    assert found.why == ["gpu:1 (0000:10:00.0) is on node 1"]
    assert place(machine(), near="gpu:1", smt=False).cpus == (4, 5, 6, 7)
    assert place(machine(), near="gpu:0000:10:00.0").node == 1


def test_isolated_and_reserved_processors_stay_free() -> None:
    topology = replace(machine(), isolated=(4, 12), cpusets=(Cpuset("kubepods/pod1", (5,), "root"),))
    found = place(topology, (6,), near="node:1")
    assert found.cpus == (7, 13, 14, 15)
    assert "not 4-5,12: it is isolated" in found.why and "not 6: reserved" in found.why
    with pytest.raises(NoPlace, match="every processor of node 1 is isolated or reserved"):
        place(topology, (6, 7, 13, 14, 15), near="node:1")


def test_a_node_of_memory_alone_gets_the_nearest_processors() -> None:
    """CXL memory, or a GPU's own memory that the kernel shows as a node (GH200)."""
    base = machine()
    nodes = (
        replace(base.nodes[0], distances=(10, 21, 24)),
        replace(base.nodes[1], distances=(21, 10, 14)),
        Node(2, (), 96 * GIB, (24, 14, 10)),
    )
    found = place(replace(base, nodes=nodes), near="node:2")
    assert (found.node, found.cpus, found.memory) == (2, base.nodes[1].cpus, (2,))
    assert "node 2 has no processors: those of node 1, the nearest" in found.why


def test_a_node_without_memory_gets_the_nearest_memory() -> None:
    base = machine(4)
    nodes = tuple(
        replace(node, memory_bytes=0 if node.number == 3 else node.memory_bytes, distances=(32, 32, 12, 10))
        for node in base.nodes
    )
    found = place(replace(base, nodes=nodes), near="node:3")
    assert found.cpus == nodes[3].cpus and found.memory == (2,)


def test_one_node_needs_nothing() -> None:
    found = place(machine(1), near="gpu:0")
    assert (found.node, found.cpus, found.memory) == (0, None, None)
    assert place(machine(1), (0,), near="gpu:0").cpus == (1, 2, 3, 4, 5, 6, 7)
    item = place_plan.make(machine(1), Want("model.service", "gpu:0"), Unit("model.service"))
    assert item.action == "none" and item.text == "" and "this host has one node" in item.reason


def test_a_device_that_does_not_say_its_node() -> None:
    nic = Device("nic", "eth0", "0000:01:00.0", None, machine().online, "virtio_net")
    with pytest.raises(NoPlace, match=r"numa_node is -1.*near node:NUMBER"):
        place(machine(devices=(nic,)), near="nic:eth0")
    local = replace(nic, cpus=(4, 5))
    assert place(machine(devices=(local,)), near="nic:eth0").node == 1
    with pytest.raises(NoPlace, match="this host has nics: eth0"):
        place(machine(devices=(nic,)), near="nic:eth9")
    with pytest.raises(NoPlace, match="this host has the nodes 0-1"):
        place(machine(), near="node:7")


def test_explicit_processors() -> None:
    found = place(machine(), near="node:1", cpus=(0, 4))
    assert found.cpus == (0, 4) and "0 of them are not on node 1" in found.why
    with pytest.raises(NoPlace, match="cpus: 99 are not on; this host has 0-15"):
        place(machine(), cpus=(99,))


# --- services


def running(pid: int = 812, unit: str = "model.service", **state: str | None) -> Running:
    return Running(unit, pid, {"cpus": "0-15", "policy": "default", "memlock": "8388608", **state})


def test_the_drop_in_and_who_must_be_restarted() -> None:
    unit = Unit("model.service", (("/etc/systemd/system/model.service", "[Service]\n"),), (running(),))
    item = place_plan.make(machine(), Want("model.service", "gpu:1", memlock="infinity"), unit)
    assert item.action == "set"
    assert item.text.splitlines()[2:] == [
        "[Service]",
        "CPUAffinity=",
        "CPUAffinity=4-7,12-15",
        "NUMAPolicy=bind",
        "NUMAMask=",
        "NUMAMask=1",
        "LimitMEMLOCK=infinity",
    ]
    assert [one.text for one in item.restarts] == [
        "restart model.service to place it: pid 812 has processors 0-15, wanted 4-7,12-15; memory policy default, wanted bind:1; "
        "locked memory 8388608, wanted infinity"
    ]
    placed = running(cpus="4-7,12-15", policy="bind:1", memlock="infinity")
    own = (place_plan.drop_in("model.service"), item.text)
    again = place_plan.make(machine(), item.want, replace(unit, files=(*unit.files, own), running=(placed,)))
    assert again.action == "none" and again.restarts == []


def test_a_template_s_instances_are_each_looked_at() -> None:
    unit = Unit(
        "model@.service", (), (running(1, "model@0.service"), running(2, "model@1.service", cpus="0-3,8-11", policy="bind:0"))
    )
    item = place_plan.make(machine(), Want("model@.service", "node:0"), unit)
    assert [one.unit for one in item.restarts] == ["model@0.service"]


def test_who_gives_way_and_who_wins() -> None:
    folder = "/etc/systemd/system/model.service.d"
    early = (f"{folder}/override.conf", "# mine\n[Service]\nCPUAffinity=0-3\nNUMAPolicy=interleave\n")
    item = place_plan.make(machine(), Want("model.service", "gpu:1"), Unit("model.service", (early,)))
    assert [str(one) for one in item.replaces] == [
        f"CPUAffinity=0-3 ({folder}/override.conf line 3)",
        f"NUMAPolicy=interleave ({folder}/override.conf line 4)",
    ]
    late = ("/run/systemd/system/model.service.d/zzz.conf", "[Service]\nCPUAffinity=0-3\n")
    item = place_plan.make(machine(), Want("model.service", "gpu:1"), Unit("model.service", (early, late)))
    assert (
        item.action == "refuse"
        and "CPUAffinity=0-3 (/run/systemd/system/model.service.d/zzz.conf line 2) comes after" in item.reason
    )


def test_what_the_control_group_leaves() -> None:
    """AllowedCPUs= and CPUAffinity= are cut with each other; with nothing left the service does not start."""
    none = Unit("model.service", allowed_cpus=(0, 1))
    item = place_plan.make(machine(), Want("model.service", "gpu:1"), none)
    assert item.action == "refuse" and "allows the processors 0-1 only (AllowedCPUs=" in item.reason
    part = Unit("model.service", running=(running(),), allowed_cpus=(4, 5))
    item = place_plan.make(machine(), Want("model.service", "gpu:1", policy="keep"), part)
    assert item.action == "set" and item.restarts[0].will["cpus"] == "4-5"
    assert "its control group allows 4-5: it runs on 4-5" in item.place.why
    mems = Unit("model.service", allowed_nodes=(0,))
    item = place_plan.make(machine(), Want("model.service", "gpu:1"), mems)
    assert item.action == "refuse" and "AllowedMemoryNodes=" in item.reason


def test_memory_that_does_not_fit_its_node_is_not_bound() -> None:
    big = Unit("model.service", memory_bytes=70 * GIB)
    item = place_plan.make(machine(), Want("model.service", "gpu:1"), big)
    assert item.action == "refuse" and "use policy preferred" in item.reason
    assert place_plan.make(machine(), Want("model.service", "gpu:1", policy="preferred"), big).action == "set"


def test_programs_that_set_places_themselves_are_named() -> None:
    item = place_plan.make(machine(), Want("model.service", "gpu:1"), Unit("model.service", program="numactl"))
    assert item.notes == ["model.service starts through numactl, which sets a place of its own after systemd did"]
    item = place_plan.make(machine(), Want("docker.service", "gpu:1"), Unit("docker.service", program="dockerd"))
    assert "they get their place from it" in item.notes[0]


def test_unit_files_as_systemd_reads_them() -> None:
    text = "[Unit]\nCPUAffinity=9\n[Service]\nCPUAffinity=0 1 \\\n# a comment inside\n  2\n;NUMAMask=1\nLimitMEMLOCK = 8G\n"
    assert [(one.key, one.value, one.line) for one in unit_files.settings("a", text)] == [
        ("CPUAffinity", "0 1 2", 4),
        ("LimitMEMLOCK", "8G", 8),
    ]
    files = [("x.service", "[Service]\nCPUAffinity=0\n"), ("x.service.d/b.conf", "[Service]\nCPUAffinity=1\n")]
    assert [one.value for one in unit_files.effective(files)["CPUAffinity"]] == ["0", "1"]
    assert "CPUAffinity" not in unit_files.effective([*files, ("x.service.d/c.conf", "[Service]\nCPUAffinity=\n")])


def options(*services: dict[str, object], **given_: object) -> placement.Options:
    defaults = {"near": "", "cpus": None, "policy": "bind", "smt": True, "memlock": None}
    base = {"state": "present", "reserve": "", "missing": "fail", "restart": False, "force": False}
    return placement.Options.from_params({**base, "services": [{**defaults, **one} for one in services], **given_})


def test_options_are_read_or_explained() -> None:
    found = options({"name": "model@0", "memlock": "8G", "cpus": "0-3,8"}, reserve="0,64").services[0]
    assert (found.name, found.memlock, found.cpus) == ("model@0.service", str(8 << 30), (0, 1, 2, 3, 8))
    assert options({"name": "a", "memlock": "unlimited"}).services[0].memlock == "infinity"
    for given_, told in (
        (({"name": "a/b"},), "'a/b' is no systemd service"),
        (({"name": "a.socket"},), "'a.socket' is no systemd service"),
        (({"name": "a"}, {"name": "a.service"}), "a.service is given twice"),
        (({"name": "a", "memlock": "lots"},), "memlock of a.service is 'lots'"),
        (({"name": "a", "cpus": "3-1"},), "cpus of a.service is '3-1'"),
    ):
        with pytest.raises(ChangeError, match=told):
            options(*given_)


def test_what_a_process_was_given() -> None:
    assert service.memlock("Max locked memory         8388608              8388608              bytes     \n") == "8388608"
    assert service.memlock("Max locked memory         unlimited            unlimited            bytes     \n") == "infinity"


# --- huge pages


def pools(topology: Topology, pages: int = 0, sizes: tuple[int, ...] = (2048, 1 << 20)) -> list[pages_plan.Pool]:
    folder = "/sys/devices/system/node/node{}/hugepages/hugepages-{}kB"
    return [
        pages_plan.Pool(folder.format(node.number, size), node.number, size, pages) for node in topology.nodes for size in sizes
    ]


def memory(topology: Topology | None = None, pages: int = 0, **given_: object) -> pages_plan.Memory:
    topology = topology or machine()
    thp = {
        f"{pages_plan.THP}/enabled": ("always", ("always", "madvise", "never")),
        f"{pages_plan.THP}/defrag": ("madvise", ("always", "defer", "defer+madvise", "madvise", "never")),
    }
    found = pages_plan.Memory(topology, pools(topology, pages), 2048, thp)
    return replace(found, **given_)  # type: ignore[arg-type]


def short(folder: str) -> str:
    return folder.split("/node/")[1].replace("/hugepages/hugepages-", " ")


@given(
    machines(),
    st.lists(st.tuples(st.integers(1, 400_000), st.sampled_from([None, 2048, 1 << 20])), max_size=3),
    st.integers(0, 64),
)
def test_pages_are_on_nodes_with_memory_and_leave_room(
    topology: Topology, wants: list[tuple[int, int | None]], there: int
) -> None:
    host = memory(topology, there)
    plan = pages_plan.make(host, [pages_plan.Want(count, size) for count, size in wants])
    if plan.errors:
        return
    sizes = {pool.folder: pool for pool in host.pools}
    for folder, number in plan.pages.items():
        home = topology.node(sizes[folder].node or 0)
        assert home is not None and home.memory_bytes and home.cpus and number >= there
    for node in topology.nodes:
        taken = sum(
            plan.pages.get(pool.folder, pool.pages) * pool.size_kb * 1024 for pool in host.pools if pool.node == node.number
        )
        raised = any(plan.pages.get(pool.folder, 0) > pool.pages for pool in host.pools if pool.node == node.number)
        assert not raised or taken <= (node.memory_bytes or 0) * 0.9
    after = memory(topology, originals={pool.folder: pool.pages for pool in host.pools})
    after.pools = [replace(pool, pages=plan.pages.get(pool.folder, pool.pages)) for pool in host.pools]
    again = pages_plan.make(after, [pages_plan.Want(count, size) for count, size in wants])
    assert not again.errors and {item.action for item in again.items} <= {"none"} and again.pages == plan.pages


def test_pages_near_a_gpu() -> None:
    plan = pages_plan.make(memory(), [pages_plan.Want(1024, 2048, "gpu:1"), pages_plan.Want(4, 1 << 20, "gpu:1")])
    assert {short(folder): number for folder, number in plan.pages.items()} == {"node1 2048kB": 1024, "node1 1048576kB": 4}
    assert [item.action for item in plan.items] == ["set", "set"]


def test_pages_of_others_stay_and_our_own_shrink() -> None:
    plan = pages_plan.make(memory(pages=2000), [pages_plan.Want(1024, 2048, "node:0")])
    assert plan.items[0].action == "none" and plan.items[0].reason == "2000 were there before, for others: they stay"
    host = memory(pages=2000)
    host.originals = {pool.folder: 100 for pool in host.pools}
    plan = pages_plan.make(host, [pages_plan.Want(1024, 2048, "node:0")])
    assert plan.items[0].action == "set" and plan.items[0].wanted == "1024"


def test_fewer_pages_than_asked_for_are_no_change_that_comes_back() -> None:
    host = memory(pages=700)
    host.originals = {pool.folder: 0 for pool in host.pools}
    folder = host.pools[0].folder
    host.short = {folder: (1024, 700)}
    plan = pages_plan.make(host, [pages_plan.Want(1024, 2048, "node:0")])
    assert plan.items[0].action == "short" and "got 700 of 1024 pages of 2M" in plan.shortages[0].reason
    host.short = {folder: (1024, 800)}  # somebody took more away since
    assert pages_plan.make(host, [pages_plan.Want(1024, 2048, "node:0")]).items[0].action == "set"


def test_pages_that_cannot_be() -> None:
    def errors(*wants: pages_plan.Want, host: pages_plan.Memory | None = None) -> str:
        return "; ".join(pages_plan.make(host or memory(), list(wants)).errors)

    assert "size 16M is not one of this host's: 2M, 1G" in errors(pages_plan.Want(1, 16384))
    assert "node 1 has 65536 MiB, the huge pages together would take 65536 MiB" in errors(pages_plan.Want(64, 1 << 20, "node:1"))
    assert "given twice" in errors(pages_plan.Want(1, None, "node:0"), pages_plan.Want(2, 2048))
    assert "no huge pages" in errors(pages_plan.Want(1), host=memory(pools=[], default_kb=None))
    with pytest.raises(ValueError, match="sizes look like 2M"):
        pages_plan.size_kb("huge")


def test_sizes_of_other_architectures() -> None:
    """aarch64 with base pages of 64 KiB has 512 MiB as its default, and 2 MiB and 16 GiB beside it."""
    topology = machine(1)
    host = memory(topology, pools=pools(topology, 0, (2048, 524288, 16 << 20)), default_kb=524288)
    plan = pages_plan.make(host, [pages_plan.Want(4)])
    assert {short(folder): number for folder, number in plan.pages.items()} == {"node0 524288kB": 4}
    assert pages_plan.size_kb("512M") == 524288 and pages_plan.shown(524288) == "512M" and pages_plan.shown(16 << 20) == "16G"


def test_a_kernel_without_nodes() -> None:
    topology = Topology((Cpu(0, 0, 0, None),), (Node(0, (0,)),))
    pool = pages_plan.Pool("/sys/kernel/mm/hugepages/hugepages-2048kB", None, 2048, 0)
    plan = pages_plan.make(memory(topology, pools=[pool]), [pages_plan.Want(8)])
    assert plan.pages == {pool.folder: 8} and not plan.errors


def test_transparent_pages_by_profile_and_as_given() -> None:
    plan = pages_plan.make(memory(), [], profile="inference")
    assert [(item.present, item.wanted, item.action) for item in plan.items] == [
        ("always", "madvise", "set"),
        ("madvise", "madvise", "none"),
    ]
    assert pages_plan.make(memory(), [], "never", profile="inference").items[0].wanted == "never"
    assert pages_plan.make(memory(), [], profile="own").items == []
    without = pages_plan.make(memory(thp={}), [], profile="training")
    assert {item.action for item in without.items} == {"skip"} and not without.errors
    assert "no transparent huge pages" in pages_plan.make(memory(thp={}), [], "never").errors[0]


def test_choices_in_brackets() -> None:
    assert page_objects.chosen("always [madvise] never\n") == "madvise"
    assert page_objects.chosen("17  \n") == "17"


@pytest.mark.parametrize(
    ("numbers", "ours"), [((0, 1024, 700), True), ((0, 1024, 1025), False), ((100, 10, 50), True), ((0, 8, -1), False)]
)
def test_a_part_of_what_was_written_is_ours(numbers: tuple[int, int, int], ours: bool) -> None:
    assert page_objects.partly("2048kB", *({"pages": number} for number in numbers)) is ours
    assert not page_objects.partly("2048kB", None, {"pages": 3}, {"pages": 2})


def test_lists_are_written_as_systemd_reads_them() -> None:
    found = place(machine(2, 64), near="node:1")
    assert cpulist.show(found.cpus or ()) == "64-127,192-255"


# --- machines of public documents, and what their maker says


def gpus(*nodes: int) -> list[dict[str, object]]:
    """GPUs in the order of their addresses, one below a root port of its own."""
    return [
        {
            "kind": "gpu",
            "name": "gpu",
            "path": [f"pci0000:{bus:02x}", f"0000:{bus:02x}:01.0", f"0000:{bus + 1:02x}:00.0"],
            "node": node,
            "class": "0x030200",
            "vendor": "0x10de",
        }
        for bus, node in ((16 * (number + 1), node) for number, node in enumerate(nodes))
    ]


#: ``nvidia-smi topo -m``, columns "CPU Affinity" and "NUMA Affinity", of each GPU.
DGX_A100 = Machine(2, 64, 2, 8, memory_gib=128, devices=gpus(3, 3, 1, 1, 7, 7, 5, 5))  # github.com/NVIDIA/nccl/issues/1505
DGX_H100 = Machine(
    2, 56, 2, 2, memory_gib=1024, devices=gpus(0, 0, 0, 0, 1, 1, 1, 1)
)  # github.com/vllm-project/vllm/issues/13855
MAKER = {
    "dgx-a100": (DGX_A100, {3: "48-63,176-191", 1: "16-31,144-159", 7: "112-127,240-255", 5: "80-95,208-223"}),
    "dgx-h100": (DGX_H100, {0: "0-55,112-167", 1: "56-111,168-223"}),
}


@pytest.mark.parametrize("name", MAKER)
def test_a_service_of_each_gpu_is_where_its_maker_wants_it(name: str, tmp_path: Path) -> None:
    described, advice = MAKER[name]
    topology = topology_reader.read(*build(described, tmp_path))
    assert len(topology.gpus()) == 8
    for number, gpu in enumerate(topology.gpus()):
        found = place(topology, near=f"gpu:{number}")
        assert gpu.node is not None and found.memory == (gpu.node,)
        assert cpulist.show(found.cpus or ()) == advice[gpu.node]


def test_a_superchip_s_gpu_memory_is_a_node_without_processors(tmp_path: Path) -> None:
    """GH200: 72 cores and their memory are node 0, the GPU's memory is a node of its own; the GPU's PCI device is at node 0."""
    described = Machine(1, 72, 1, 1, memory_gib=480, devices=gpus(0))
    topology = topology_reader.read(*build(described, tmp_path))
    hbm = Node(1, (), 96 * GIB, (80, 10))
    topology = replace(topology, nodes=(replace(topology.nodes[0], distances=(10, 80)), hbm))
    near = place(topology, near="gpu:0")
    assert (cpulist.show(near.cpus or ()), near.memory) == ("0-71", (0,))
    there = place(topology, near="node:1")
    assert (cpulist.show(there.cpus or ()), there.memory) == ("0-71", (1,))
