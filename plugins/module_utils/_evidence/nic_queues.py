# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Queues of NICs, their interrupts, and which processors serve them. ``read`` takes the roots, as topology.read does."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._evidence.section import Gap
from ansible_collections.netops.fleet.plugins.module_utils._evidence.topology import Device, Topology
from ansible_collections.netops.fleet.plugins.module_utils._kernel import cpulist, irqs, procfs

#: Handlers that are no queue: commands, mailboxes, link changes, time stamps, flow director, RDMA.
_CONTROL = re.compile(
    r"(?i)async|mgmnt|mgmt|misc|config|control|event|hwc|cmd|slowpath|fdir|mbx|mailbox|other|lsc|ptp|ts\d*\Z|rdma|ctrl|aeq|ceq"
)
#: A word that says "queue", and the queue's number. mlx5_comp3@pci:…, ice-ens1-TxRx-3, ens1-Tx-Rx-3, eth0-rxtx-3, eth0-fp-3,
#: virtio1-input.3, mana_q3@pci:…, mlx4-3@…, gve-ntfy-blk3@pci:…, eth0-ntfy-block.3, "eth0 (queue 3)".
_QUEUE = re.compile(
    r"(?i)(?:\A|[-_ (])(?P<word>tx-?rx|rx-?tx|rx|tx|fp|comp|q|queue|input|output|ntfy-blk|ntfy-block|mlx4)"
    r"[-_. ]?(?P<index>\d+)(?=\)|@|\Z)"
)
#: Drivers whose other interrupts of this kind serve RDMA: these are placed as well.
_SHARED_WITH_RDMA = frozenset(("mlx5_core", "mlx4_core", "mlx4_en"))
#: ens1f0-3: handlers named by the interface alone (mlx5 of old kernels, sfc).
_PLAIN = re.compile(r"\A(?P<link>.+)-(?P<index>\d+)\Z")


@dataclass(frozen=True)
class Irq:
    """An interrupt. handler: its name. queue: the number of the queue it serves, None for a control interrupt.

    cpus: where it may go. effective: where it goes, None when the kernel does not say. fixed: the kernel lets nobody move it.
    """

    number: int
    handler: str
    queue: int | None
    cpus: tuple[int, ...]
    effective: tuple[int, ...] | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Nic:
    """device: where it is attached. home: name of the device that owns the interrupts (a PCI address, or a bus's own id).

    rps, xps: processors by receive and transmit queue; None where the kernel has none of it. flows: rps_flow_cnt by queue.
    shared: other interfaces on the same device, which share these interrupts.
    """

    device: Device
    home: str
    up: bool
    irqs: tuple[Irq, ...] = ()
    rps: tuple[tuple[int, ...] | None, ...] = ()
    xps: tuple[tuple[int, ...] | None, ...] = ()
    flows: tuple[int | None, ...] = ()
    shared: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.device.name

    def queues(self) -> dict[int, list[Irq]]:
        """Interrupts by queue: the receive and the transmit interrupt of a pair belong together."""
        found: dict[int, list[Irq]] = {}
        for irq in self.irqs:
            if irq.queue is not None:
                found.setdefault(irq.queue, []).append(irq)
        return dict(sorted(found.items()))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; from_dict reads it back."""
        return {
            "name": self.name,
            "home": self.home,
            "up": self.up,
            "irqs": [
                {
                    "number": one.number,
                    "handler": one.handler,
                    "queue": one.queue,
                    "cpus": cpulist.show(one.cpus),
                    "effective": None if one.effective is None else cpulist.show(one.effective),
                    "fixed": one.fixed,
                }
                for one in self.irqs
            ],
            "rps": [None if one is None else cpulist.show(one) for one in self.rps],
            "xps": [None if one is None else cpulist.show(one) for one in self.xps],
            "flows": list(self.flows),
            "shared": list(self.shared),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], topology: Topology) -> Nic:
        """Raises ValueError when it is not what to_dict gives, or of another machine than ``topology``."""
        try:
            device = topology.device(f"nic:{data['name']}")
            found = tuple(
                Irq(
                    one["number"],
                    one["handler"],
                    one["queue"],
                    cpulist.parse(one["cpus"]),
                    cpulist.parse_or_none(one["effective"]),
                    one["fixed"],
                )
                for one in data["irqs"]
            )
            rps, xps = (tuple(cpulist.parse_or_none(one) for one in data[kind]) for kind in ("rps", "xps"))
            return cls(device, data["home"], data["up"], found, rps, xps, tuple(data["flows"]), tuple(data["shared"]))
        except (KeyError, TypeError, LookupError) as error:
            raise ValueError(f"no NIC: {error}") from None


def classify(handler: str, link: str, transmit: int) -> int | None:
    """Number of the queue that a handler serves, None when it is no queue's. transmit: number of transmit queues."""
    if handler == link:
        return 0  # the only interrupt of a NIC with one queue; of others it is the link's (see _label)
    rest = handler.replace(link, "", 1) if link in handler else handler
    rest = rest.split("@", 1)[0] + ("@" if "@" in rest else "")
    found = _QUEUE.search(rest)
    if found is None:
        plain = _PLAIN.match(handler)
        return int(plain["index"]) if plain and plain["link"] == link else None
    if _CONTROL.search(rest[: found.start("index")]):
        return None
    index = int(found["index"])
    if found["word"].lower().startswith("ntfy") and transmit:
        return index % transmit  # gve: first the transmit queues, then the receive queues
    if found["word"].lower() == "mlx4":
        return index - 1 if index else None  # mlx4-0 and mlx4-async are the device's own
    return index


def _label(mine: list[tuple[int, str]], link: str, transmit: int) -> dict[int, int | None]:
    """Interrupt number → queue. A handler named like the link is a queue only where there is no other."""
    found = {number: classify(handler, link, transmit) for number, handler in mine}
    named = [number for number, handler in mine if handler == link]
    if any(queue is not None for number, queue in found.items() if number not in named):
        found.update(dict.fromkeys(named))
    return found


def read(topology: Topology, sys: str = "/sys", proc: str = "/proc") -> tuple[list[Nic], list[Gap]]:
    """NICs with their queues, by name; one for each device. Never raises for what a machine can be."""
    gaps: list[Gap] = []
    try:
        handlers = irqs.actions(sys, proc)
    except OSError as error:
        gaps.append(Gap("irqs", procfs.reason(error)))
        handlers = {}
    by_home: dict[str, list[Device]] = {}
    for device in topology.nics():
        by_home.setdefault(_home(sys, device), []).append(device)
    found = [_nic(home, devices, handlers, sys, proc) for home, devices in by_home.items()]
    return sorted(found, key=lambda nic: nic.name), gaps


def _home(sys: str, device: Device) -> str:
    """The device that owns the interrupts: virtio and the like are children of it."""
    if device.address is not None:
        return os.path.realpath(f"{sys}/bus/pci/devices/{device.address}")
    return os.path.realpath(f"{sys}/class/net/{device.name}/device")


def _nic(home: str, devices: list[Device], handlers: dict[int, str], sys: str, proc: str) -> Nic:
    own = os.path.basename(home)
    numbers = set(irqs.of_device(home))
    if not numbers:  # a bus that does not list them: by name
        words = [own, *(one.name for one in devices)]
        pattern = re.compile(rf"(?:\A|[-@:_])(?:{'|'.join(map(re.escape, words))})(?:[-_@:. ]|\Z)")
        numbers = {number for number, handler in handlers.items() if pattern.search(handler)}
    mine = sorted((number, handlers[number]) for number in numbers if number in handlers)
    # Ports that share a device (representors of virtual functions): the one that interrupts are named after, else the first.
    order = sorted(devices, key=lambda one: procfs.integer(f"{sys}/class/net/{one.name}/ifindex") or 0)
    device = next((one for one in order if any(one.name in handler for _number, handler in mine)), order[0])
    folder = f"{sys}/class/net/{device.name}"
    receive, transmit = _queues(folder, "rx"), _queues(folder, "tx")
    labels = _label(mine, device.name, len(transmit))
    active = max(len(receive), len(transmit))
    if active and device.driver not in _SHARED_WITH_RDMA:
        # Some drivers keep the interrupts of queues that are switched off.
        labels = {number: queue if queue is not None and queue < active else None for number, queue in labels.items()}
    flags = procfs.decimal((procfs.text_or_none(f"{folder}/flags", 64) or "").strip(), 16)
    return Nic(
        device,
        own,
        bool((flags or 0) & 1),
        tuple(
            Irq(
                number,
                handler,
                labels[number],
                irqs.affinity(number, proc) or (),
                irqs.effective(number, proc),
                irqs.unmovable(number, proc),
            )
            for number, handler in mine
        ),
        tuple(_mask(f"{folder}/queues/{name}/rps_cpus") for name in receive),
        tuple(_mask(f"{folder}/queues/{name}/xps_cpus") for name in transmit),
        tuple(procfs.integer(f"{folder}/queues/{name}/rps_flow_cnt") for name in receive),
        tuple(one.name for one in order if one is not device),
    )


def _queues(folder: str, way: str) -> list[str]:
    try:
        names = [name for name in os.listdir(f"{folder}/queues") if re.fullmatch(rf"{way}-\d+", name)]
    except OSError:
        return []
    return sorted(names, key=lambda name: int(name[3:]))


def _mask(path: str) -> tuple[int, ...] | None:
    """xps_cpus of a NIC with one queue cannot be read (ENOENT); neither on kernels without it."""
    text = procfs.text_or_none(path, 65536)
    try:
        return None if text is None else cpulist.parse_mask(text)
    except ValueError:
        return None
