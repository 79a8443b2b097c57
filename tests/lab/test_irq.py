# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interrupts of NICs on a machine with 4 processors, 2 nodes, irqbalance, and NICs with 4 queues and with 1.

What is in force is read with cat, ethtool and systemctl in the machine, not with the collection's own readers.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.machine import Machine, Nic

pytestmark = [pytest.mark.lab, pytest.mark.machine, pytest.mark.drill]

_RUN = """
from ansible_collections.netops.fleet.plugins.module_utils._tuning import irq, nic
program = {"irq": irq, "nic": nic}[args[0]]
given = {name: spec.get("default") for name, spec in program.ARGUMENTS.items()} | args[2]
options = program.Options.from_params(given)
result = irq.run(options, args[1], False) if args[0] == "irq" else nic.run(options, given, args[1], False)
"""
_BACK = """
from ansible_collections.netops.fleet.plugins.module_utils._safety import act
result = act.run({"state": "rolled_back", "owner": None, "change": None, "force": False}, False)
"""
#: A packet from each processor: it leaves through the queue that XPS gives it, and its completion is an interrupt.
_SEND = """
import os, socket
before = os.sched_getaffinity(0)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for cpu in sorted(before):
        os.sched_setaffinity(0, {cpu})
        for port in range(args[1]):
            sock.sendto(b"x", (args[0], 20000 + port))
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """eth1: 4 queues, no node known. eth2: 1 queue, on node 1."""
    with Machine(nics=(Nic(4), Nic(1, node=1))) as running:
        rooms = "ansible_collections.netops.fleet.plugins.module_utils."
        running.load(*(rooms + name for name in ("_tuning.irq", "_tuning.nic", "_safety.act", "_diagnosis.interrupts")))
        yield running


@pytest.fixture(autouse=True)
def untouched(machine: Machine) -> Iterator[None]:
    yield
    machine.call(_BACK)
    machine.sh("ethtool -L eth1 combined 4; rm -f /var/lib/netops.fleet/*.json; systemctl start irqbalance", check=False)


def run(machine: Machine, what: str, state: str, **given: Any) -> dict[str, Any]:
    result: dict[str, Any] = machine.call(_RUN, what, state, given)
    return result


def interrupts(machine: Machine, link: str) -> dict[str, int]:
    """Handler → number, of the link's queues."""
    found = machine.sh(f"readlink -f /sys/class/net/{link}/device").strip().rsplit("/", 1)[1]
    rows = re.findall(rf"^ *(\d+):.* ({found}-(?:input|output)\.\d+)$", machine.sh("cat /proc/interrupts"), re.MULTILINE)
    return {handler.split("-", 1)[1]: int(number) for number, handler in rows}


def affinities(machine: Machine, link: str, file: str = "smp_affinity_list") -> dict[str, str]:
    numbers = interrupts(machine, link)
    said = machine.sh("cat " + " ".join(f"/proc/irq/{number}/{file}" for number in numbers.values())).split()
    return dict(zip(numbers, said))


def queues(machine: Machine, link: str, setting: str) -> list[str]:
    return machine.sh(f"cat /sys/class/net/{link}/queues/{setting}").split()


def until(condition: Any, seconds: float = 90) -> None:
    """Await it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def fill(machine: Machine, link: str, tap: str, at: int) -> None:
    """Traffic through every queue of a link, both ways."""
    here, there = f"198.51.100.{4 * at + 1}", f"198.51.100.{4 * at + 2}"
    subprocess.run(["ip", "address", "replace", f"{here}/30", "dev", tap], check=True)
    machine.sh(f"ip link set {link} up; ip address replace {there}/30 dev {link}")
    machine.call(_SEND, here, 4)
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for port in range(256):
            sock.sendto(b"x", (there, 20000 + port))


def test_four_queues_one_for_each_processor(machine: Machine) -> None:
    before = affinities(machine, "eth1")
    planned = run(machine, "irq", "planned", nics=["eth1"])
    assert planned["changed"] and affinities(machine, "eth1") == before
    wanted = {f"{way}.{queue}": str(queue) for queue in range(4) for way in ("input", "output")}
    assert {one["handler"].split("-", 1)[1]: str(one["cpu"]) for one in planned["plan"]} == wanted
    done = run(machine, "irq", "present", nics=["eth1"])
    assert done["changed"] and done["left"] == []
    assert affinities(machine, "eth1") == wanted
    # the kernel's word for where they really go, once they came

    def arrived() -> bool:
        fill(machine, "eth1", machine.taps[0], 0)
        return affinities(machine, "eth1", "effective_affinity_list") == wanted

    until(arrived)
    assert [int(mask, 16) for mask in queues(machine, "eth1", "tx-*/xps_cpus")] == [1, 2, 4, 8]
    again = run(machine, "irq", "present", nics=["eth1"])
    assert not again["changed"] and again["changes"] == []
