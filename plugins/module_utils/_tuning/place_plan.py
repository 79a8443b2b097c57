# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Where services belong: (topology, services as they are, what is wanted) → places, each explained. Pure. (T08, T10)

Sources: systemd.exec(5), set_mempolicy(2), Documentation/admin-guide/mm/numa_memory_policy.rst, cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Node, Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist
from ansible_collections.netops.fleet.plugins.module_utils._tuning import unit_files

#: Sorts behind override.conf, which ``systemctl edit`` writes: the last name wins.
DROP_IN = "zz-netops-fleet-placement.conf"
POLICIES = ("bind", "preferred", "interleave", "local", "keep")
#: How the kernel calls a policy in numa_maps.
_SHOWN = {"bind": "bind", "preferred": "prefer", "interleave": "interleave", "local": "local"}
#: Programs that start others in containers, which get a place from their engine.
ENGINES = ("containerd", "crio", "docker", "kubelet", "podman")
#: Programs that set the place of what they start themselves, after systemd did.
PINNING = ("chrt", "likwid-pin", "numactl", "taskset")


@dataclass(frozen=True)
class Want:
    """One service of the options. near: ``nic:NAME``, ``gpu:NUMBER``, ``node:NUMBER`` or "". cpus: explicit, None for the node's.

    memlock: bytes, ``infinity``, or None to leave it.
    """

    name: str
    near: str = ""
    cpus: tuple[int, ...] | None = None
    policy: str = "bind"
    smt: bool = True
    memlock: str | None = None


@dataclass(frozen=True)
class Running:
    """A main process. unit: its own, an instance where the service is a template. state: as _safety/service.py captures it."""

    unit: str
    pid: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """A service as it is. files: (path, text) of its unit file and drop-ins. running: its main process, of a template several.

    allowed_cpus, allowed_nodes: its control group's cpuset, None without one. memory_bytes: its own, None when not known.
    program: file name of what it starts. memory_kb: in use, by node.
    """

    name: str
    files: tuple[tuple[str, str], ...] = ()
    running: tuple[Running, ...] = ()
    allowed_cpus: tuple[int, ...] | None = None
    allowed_nodes: tuple[int, ...] | None = None
    memory_bytes: int | None = None
    program: str = ""
    memory_kb: dict[str, int] | None = None


@dataclass
class Place:
    """node: None when the host has one node, or none was asked for. cpus, memory: None where nothing is to be set."""

    node: int | None = None
    cpus: tuple[int, ...] | None = None
    memory: tuple[int, ...] | None = None
    why: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Restart:
    """What a running process has, what it would start with, and that in a sentence."""

    unit: str
    now: dict[str, Any]
    will: dict[str, Any]
    text: str


@dataclass
class Item:
    """What the plan says about one service. action: none, set, skip, refuse. restarts: processes that lack what is wanted."""

    want: Want
    unit: str
    place: Place = field(default_factory=Place)
    action: str = "none"
    reason: str = ""
    text: str = ""
    replaces: list[unit_files.Setting] = field(default_factory=list)
    running: tuple[Running, ...] = ()
    memory_kb: dict[str, int] | None = None
    restarts: list[Restart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        place = self.place
        return {
            "service": self.unit,
            "near": self.want.near,
            "node": place.node,
            "cpus": None if place.cpus is None else cpulist.show(place.cpus),
            "policy": None if place.memory is None else self.want.policy,
            "memory_nodes": None if place.memory is None else cpulist.show(place.memory),
            "memlock": self.want.memlock,
            "why": "; ".join(place.why),
            "action": self.action,
            "reason": self.reason,
            "replaces": [one.to_dict() for one in self.replaces],
            "running": [{"unit": one.unit, "pid": one.pid, **one.state} for one in self.running],
            "memory_kb": self.memory_kb,
            "restart": [one.text for one in self.restarts],
        }


class NoPlace(Exception):
    """It cannot be placed as wanted; the message says why and what to do."""


def place(topology: Topology, want: Want, reserve: Collection[int] = ()) -> Place:
    """The place of one service, whatever its control group allows. Raises NoPlace."""
    found = Place()
    node = _node(topology, want.near, found.why) if want.near else None
    one_node = len(topology.nodes) < 2
    if node is not None:
        found.node = node.number
    if want.cpus is not None:
        found.cpus = _explicit(topology, want.cpus, node, found.why)
    elif node is not None:
        home = _nearest(topology, node, lambda one: bool(one.cpus))
        if home is None:
            raise NoPlace("no node of this host has a processor that is on")
        if home.number != node.number:
            found.why.append(f"node {node.number} has no processors: those of node {home.number}, the nearest")
        usable = _usable(topology, home.cpus, reserve, found.why)
        if not usable:
            raise NoPlace(f"every processor of node {home.number} is isolated or reserved; name cpus, or reserve fewer")
        if not want.smt:
            usable = tuple(threads[0] for threads in topology.cores(usable))
            found.why.append("one thread of each core")
        # On a host with one node all processors are as near: only leaving some out is worth a setting.
        if not one_node or set(usable) != set(topology.online):
            found.cpus = usable
    if want.policy == "keep" or (node is None and want.policy != "local"):
        return found
    if one_node:
        found.why.append("this host has one node: any memory is as near")
    elif want.policy == "local":
        found.memory = ()
    elif node is not None:
        found.memory = (_store(topology, node, found.why).number,)
    return found


def memory_node(topology: Topology, near: str) -> tuple[int, list[str]]:
    """(node whose memory is nearest, why). Raises NoPlace."""
    why: list[str] = []
    return _store(topology, _node(topology, near, why), why).number, why


def _store(topology: Topology, node: Node, why: list[str]) -> Node:
    store = _nearest(topology, node, lambda one: one.memory_bytes != 0)
    if store is None:
        raise NoPlace("no node of this host has memory")
    if store.number != node.number:
        why.append(f"node {node.number} has no memory: that of node {store.number}, the nearest")
    return store


def _node(topology: Topology, near: str, why: list[str]) -> Node:
    kind, _colon, name = near.partition(":")
    if kind == "node":
        known = topology.node(int(name)) if name.isdigit() else None
        if known is None:
            numbers = cpulist.show(one.number for one in topology.nodes)
            raise NoPlace(f"near {near!r}: this host has the nodes {numbers}")
        return known
    try:
        device = topology.device(near)
    except LookupError as error:
        raise NoPlace(f"near {error}") from None
    shown = f"{near} ({device.address})" if device.address and device.address not in near else near
    if device.node is not None:
        known = topology.node(device.node)
        if known is None:
            raise NoPlace(f"{shown} says node {device.node}, which is not on; name a node: near node:NUMBER")
        why.append(f"{shown} is on node {device.node}")
        return known
    if len(topology.nodes) == 1:
        why.append(f"{shown}: this host has one node")
        return topology.nodes[0]
    # Firmware that does not name the node may still name the near processors.
    homes = {cpu.node for cpu in topology.cpus if cpu.number in set(device.cpus)}
    if len(homes) == 1 and set(device.cpus) != set(topology.online):
        number = homes.pop()
        known = topology.node(number) if number is not None else None
        if known is not None:
            why.append(f"{shown} names processors {cpulist.show(device.cpus)} as near, which are node {known.number}")
            return known
    raise NoPlace(f"{shown} does not say its node (numa_node is -1), as in most virtual machines; name it: near node:NUMBER")


def _nearest(topology: Topology, start: Node, fits: Any) -> Node | None:
    """``start`` when it fits, else the nearest node that does, by the kernel's distances, then by number."""
    found = [node for node in topology.nodes if fits(node)]

    def distance(node: Node) -> tuple[bool, int, int]:
        at = [one.number for one in topology.nodes].index(node.number)
        far = start.distances[at] if at < len(start.distances) else 255
        return (node.number != start.number, far, node.number)

    return min(found, key=distance, default=None)


def _usable(topology: Topology, cpus: Iterable[int], reserve: Collection[int], why: list[str]) -> tuple[int, ...]:
    aside = topology.set_aside()
    every = tuple(cpus)
    isolated = [cpu for cpu in every if cpu in aside]
    kept = [cpu for cpu in every if cpu in set(reserve) and cpu not in aside]
    if isolated:
        why.append(f"not {cpulist.show(isolated)}: {aside[isolated[0]]}")
    if kept:
        why.append(f"not {cpulist.show(kept)}: reserved")
    return tuple(cpu for cpu in every if cpu not in aside and cpu not in set(reserve))


def _explicit(topology: Topology, cpus: tuple[int, ...], node: Node | None, why: list[str]) -> tuple[int, ...]:
    missing = set(cpus) - set(topology.online)
    if missing:
        raise NoPlace(f"cpus: {cpulist.show(missing)} are not on; this host has {cpulist.show(topology.online)}")
    if not cpus:
        raise NoPlace("cpus: the list is empty")
    why.append(f"processors {cpulist.show(cpus)} as given")
    outside = set(cpus) - set(node.cpus) if node is not None and node.cpus else set()
    if node is not None and outside:
        why.append(f"{cpulist.show(outside)} of them are not on node {node.number}")
    aside = topology.set_aside()
    taken = [cpu for cpu in cpus if cpu in aside]
    if taken:
        why.append(f"{cpulist.show(taken)} of them: {aside[taken[0]]}")
    return cpus


def drop_in(unit: str) -> str:
    return f"/etc/systemd/system/{unit}.d/{DROP_IN}"


def render(want: Want, found: Place) -> str:
    """Content of the drop-in; "" when nothing is to be set. Lists are cleared first: they would add to others' assignments."""
    lines = []
    if found.cpus is not None:
        lines += ["CPUAffinity=", f"CPUAffinity={cpulist.show(found.cpus)}"]
    if found.memory is not None:
        lines += [f"NUMAPolicy={want.policy}", "NUMAMask="]
        lines += [f"NUMAMask={cpulist.show(found.memory)}"] if found.memory else []
    if want.memlock is not None:
        lines.append(f"LimitMEMLOCK={want.memlock}")
    if not lines:
        return ""
    head = f"# Written by netops.fleet (service_placement); changed by hand it is written again.\n# {'; '.join(found.why)}\n"
    return head + "[Service]\n" + "".join(f"{line}\n" for line in lines)


def make(topology: Topology, want: Want, unit: Unit, reserve: Collection[int] = ()) -> Item:
    """The plan of one service that is there."""
    item = Item(want, unit.name)
    try:
        item.place = place(topology, want, reserve)
        _inside_cpuset(item.place, unit)
        _memory_fits(topology, want, item.place, unit)
    except NoPlace as error:
        item.action, item.reason = "refuse", f"{unit.name}: {error}"
        return item
    item.text = render(want, item.place)
    if not item.text:
        item.reason = "nothing to set: " + ("; ".join(item.place.why) or "neither near, cpus nor memlock is given")
    _files(item, unit)
    if item.action != "refuse":
        _process(item, unit)
    if unit.program in PINNING:
        item.notes.append(f"{unit.name} starts through {unit.program}, which sets a place of its own after systemd did")
    if any(unit.program == engine or unit.name.startswith(f"{engine}.") for engine in ENGINES):
        item.notes.append(
            f"{unit.name} starts containers: they get their place from it (--cpuset-cpus, CPU manager), not from here"
        )
    return item


def _inside_cpuset(found: Place, unit: Unit) -> None:
    """sched_setaffinity(2) and set_mempolicy(2) refuse what a cpuset leaves nothing of: the service would not start."""
    if found.cpus is not None and unit.allowed_cpus is not None:
        common = set(found.cpus) & set(unit.allowed_cpus)
        if not common:
            raise NoPlace(
                f"its control group allows the processors {cpulist.show(unit.allowed_cpus)} only (AllowedCPUs=, or a cpuset of "
                f"its slice), none of {cpulist.show(found.cpus)}: it would not start; change that first"
            )
        if common != set(found.cpus):
            found.why.append(f"its control group allows {cpulist.show(unit.allowed_cpus)}: it runs on {cpulist.show(common)}")
    if found.memory and unit.allowed_nodes is not None and not set(found.memory) & set(unit.allowed_nodes):
        raise NoPlace(
            f"its control group allows memory of the nodes {cpulist.show(unit.allowed_nodes)} only (AllowedMemoryNodes=, or a "
            f"cpuset of its slice), not {cpulist.show(found.memory)}: it would not start; change that first"
        )


def _memory_fits(topology: Topology, want: Want, found: Place, unit: Unit) -> None:
    """Bound to nodes that are too small, the kernel kills it although other nodes have memory."""
    if want.policy != "bind" or not found.memory or unit.memory_bytes is None:
        return
    sizes = [node.memory_bytes for node in topology.nodes if node.number in found.memory]
    room = sum(size for size in sizes if size is not None)
    if None not in sizes and unit.memory_bytes > room:
        raise NoPlace(
            f"it uses {unit.memory_bytes >> 20} MiB and node {cpulist.show(found.memory)} has {room >> 20} MiB: bound to it, "
            "it would be killed; use policy preferred"
        )


def _files(item: Item, unit: Unit) -> None:
    """What others' files say about the same directives: those that give way, and those that would win."""
    own = drop_in(unit.name)
    others = unit_files.order(one for one in unit.files if one[0] != own)
    keys = {one.key for one in unit_files.settings(own, item.text)}
    before = unit_files.effective(others)
    item.replaces = [one for key in unit_files.KEYS if key in keys for one in before.get(key, [])]
    after = unit_files.effective(unit_files.order([*others, (own, item.text)]))
    winners = [one for key in sorted(keys) for one in after.get(key, []) if one.file != own]
    if winners:
        item.action = "refuse"
        item.reason = (
            f"{unit.name}: {winners[0]} comes after {DROP_IN} and wins; remove that line, or name the file to sort before"
        )
        return
    now = dict(unit.files).get(own)
    if item.text and now != item.text:
        item.action = "set"


def _process(item: Item, unit: Unit) -> None:
    """What running processes have, and what they get at their next start."""
    item.running, item.memory_kb = unit.running, unit.memory_kb
    found = item.place
    for running in unit.running:
        now = running.state
        will = dict(now)
        if found.cpus is not None:
            allowed = found.cpus if unit.allowed_cpus is None else set(found.cpus) & set(unit.allowed_cpus)
            will["cpus"] = cpulist.show(allowed)
        if found.memory is not None and now["policy"] is not None:
            nodes = f":{cpulist.show(found.memory)}" if found.memory else ""
            will["policy"] = f"{_SHOWN[item.want.policy]}{nodes}"
        if item.want.memlock is not None and now["memlock"] is not None:
            will["memlock"] = item.want.memlock
        missing = [f"{_WORDS[key]} {now[key]}, wanted {will[key]}" for key in will if now[key] != will[key]]
        if missing:
            text = f"restart {running.unit} to place it: pid {running.pid} has {'; '.join(missing)}"
            item.restarts.append(Restart(running.unit, now, will, text))


_WORDS = {"cpus": "processors", "policy": "memory policy", "memlock": "locked memory"}
