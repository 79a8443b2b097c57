# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interrupts of NICs on a machine with 4 processors, 2 nodes, irqbalance, and NICs with 4 queues and with 1.

What is in force is read with cat, ethtool and systemctl in the machine, not with the collection's own readers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.lab.guest import ROOT
from tests.lab.machine import Machine, Nic
from tests.tools import BIN

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


def test_one_queue_gets_help_of_its_node(machine: Machine) -> None:
    done = run(machine, "irq", "present", nics=["eth2"])
    assert done["changed"]
    assert affinities(machine, "eth2") == {"input.0": "2", "output.0": "2"}
    assert [int(mask, 16) for mask in queues(machine, "eth2", "rx-0/rps_cpus")] == [8]
    assert queues(machine, "eth2", "rx-0/rps_flow_cnt") == ["32768"]
    assert machine.sh("sysctl -n net.core.rps_sock_flow_entries").strip() == "32768"
    assert not run(machine, "irq", "present", nics=["eth2"])["changed"]


def balance(machine: Machine, policy: bool) -> str:
    """One pass of irqbalance in the foreground; what it says of the interrupts."""
    words = [
        "irqbalance",
        "--foreground",
        "--debug",
        "--oneshot",
        *(["--policyscript=/etc/netops-fleet-irqbalance"] if policy else []),
    ]
    return machine.run(words, timeout=120).out


def test_irqbalance_runs_on_and_leaves_ours_alone(machine: Machine) -> None:
    run(machine, "irq", "present", nics=["eth1", "eth2"])
    wanted = {link: affinities(machine, link) for link in ("eth1", "eth2")}
    assert machine.sh("systemctl is-active irqbalance").strip() == "active"
    words = machine.sh("tr '\\0' ' ' < /proc/$(pidof irqbalance)/cmdline")
    assert "--foreground" in words and "--policyscript=/etc/netops-fleet-irqbalance" in words
    said = balance(machine, policy=True)
    numbers = {str(number) for link in wanted for number in interrupts(machine, link).values()}
    placed = set(re.findall(r"Interrupt (\d+) node_num", said))
    assert placed and not placed & numbers, "irqbalance takes ours for its own"
    assert {link: affinities(machine, link) for link in wanted} == wanted
    # the control: without the policy it counts them as its own
    assert set(re.findall(r"Interrupt (\d+) node_num", balance(machine, policy=False))) & numbers


def test_irqbalance_can_be_stopped_and_comes_back(machine: Machine) -> None:
    run(machine, "irq", "present", nics=["eth1"], irqbalance="stop")
    assert machine.sh("systemctl is-active irqbalance || true").strip() == "inactive"
    assert machine.sh("systemctl is-enabled irqbalance || true").strip() == "disabled"
    run(machine, "irq", "absent")
    assert machine.sh("systemctl is-active irqbalance").strip() == "active"
    assert machine.sh("systemctl is-enabled irqbalance").strip() == "enabled"


def test_the_unit_places_them_again_after_the_number_of_queues_changed(machine: Machine) -> None:
    run(machine, "irq", "present", nics=["eth1"], reserve="0")
    wanted = {f"{way}.{queue}": cpu for queue, cpu in enumerate("1231") for way in ("input", "output")}
    assert affinities(machine, "eth1") == wanted
    machine.sh("ethtool -L eth1 combined 2")
    machine.sh("ethtool -L eth1 combined 4")
    # the driver puts queue n on processor n when it has one for each
    until(lambda: affinities(machine, "eth1") == wanted)
    assert "netops-fleet-irq" in machine.sh(
        "journalctl -u netops-fleet-irq --no-pager -o cat -b; systemctl list-timers --all --no-pager"
    )
    until(lambda: machine.sh("systemctl is-active netops-fleet-irq || true").strip() == "inactive")
    assert not run(machine, "irq", "present", nics=["eth1"], reserve="0")["changed"]


def test_the_way_back_restores_everything(machine: Machine) -> None:
    machine.sh("systemctl stop irqbalance")  # so that nobody else moves what is compared

    def state() -> list[Any]:
        return [
            affinities(machine, "eth1"), affinities(machine, "eth2"), queues(machine, "eth1", "tx-*/xps_cpus"),
            queues(machine, "eth2", "rx-0/rps_cpus"), machine.sh("sysctl -n net.core.rps_sock_flow_entries"),
            machine.sh("ls /etc/systemd/system /etc/udev/rules.d /etc; systemctl is-enabled irqbalance"),
        ]  # fmt: skip

    before = state()
    run(machine, "irq", "present", irqbalance="ban")
    assert state() != before
    said = machine.sh("python3 /var/lib/netops.fleet/journal.pyz rollback")
    assert "restore: irq" in said and "failed" not in said
    assert state() == before
    assert machine.sh("python3 /var/lib/netops.fleet/journal.pyz show").strip() == "nothing differs from its original"


def test_settings_of_a_nic(machine: Machine) -> None:
    rule = {"match": ["eth1"], "channels": {"combined": 2}, "features": {"gro": False}, "txqueuelen": 500, "rings": {"rx": "max"}}
    full = {"channels": {}, "rings": {}, "coalesce": {}, "features": {}, "txqueuelen": None, **rule}
    done = run(machine, "nic", "present", nics=[full])
    assert {one["name"] for one in done["changes"] if one["kind"] == "nic"} == {
        "eth1 channels.combined", "eth1 features.rx-gro", "eth1 txqueuelen",
    }  # fmt: skip
    assert re.findall(r"^Combined:\s+(\d+)", machine.sh("ethtool -l eth1"), re.MULTILINE) == ["4", "2"]
    assert "generic-receive-offload: off" in machine.sh("ethtool -k eth1")
    assert "qlen 500" in machine.sh("ip link show eth1")
    assert not run(machine, "nic", "present", nics=[full])["changed"]
    run(machine, "nic", "absent")
    assert re.findall(r"^Combined:\s+(\d+)", machine.sh("ethtool -l eth1"), re.MULTILINE) == ["4", "4"]
    assert "generic-receive-offload: on" in machine.sh("ethtool -k eth1")
    assert "qlen 1000" in machine.sh("ip link show eth1")


_FINDINGS = """
from ansible_collections.netops.fleet.plugins.module_utils._evidence import interrupts as reader
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import interrupts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
section = reader.read()
found = interrupts.find(Facts({"sections": {"interrupts": section.data}}))
result = {"gaps": [gap.why for gap in section.gaps], "found": {one.id: one.subject for one in found}}
"""


def test_findings(machine: Machine) -> None:
    machine.sh("systemctl stop irqbalance")
    run(machine, "irq", "present", irqbalance="keep")
    fill(machine, "eth1", machine.taps[0], 0)
    fill(machine, "eth2", machine.taps[1], 1)
    until(lambda: machine.call(_FINDINGS)["found"] == {})
    machine.sh("systemctl start irqbalance")
    assert machine.call(_FINDINGS)["found"] == {"irqbalance-fights-binding": "irqbalance"}
    machine.sh("systemctl stop irqbalance")
    numbers = [number for link in ("eth0", "eth1", "eth2") for number in interrupts(machine, link).values()]
    machine.sh("; ".join(f"echo 1 > /proc/irq/{number}/smp_affinity_list" for number in numbers))

    def seen() -> bool:
        fill(machine, "eth1", machine.taps[0], 0)
        fill(machine, "eth2", machine.taps[1], 1)
        found: dict[str, str] = machine.call(_FINDINGS)["found"]
        return {"nic-irqs-on-one-cpu": "CPU 1", "nic-irqs-remote": "eth2"}.items() <= found.items()

    machine.sh("for n in 0 1 2 3; do echo 0 > /sys/class/net/eth1/queues/rx-$n/rps_cpus; done")
    until(seen)
    machine.sh("ethtool -L eth1 combined 2")
    assert machine.call(_FINDINGS)["found"]["nic-queues-below-cores"] == "eth1"
    machine.sh("; ".join(f"echo {wanted} > /proc/irq/{number}/smp_affinity_list" for number, wanted in zip(numbers, "00" * 9)))


def test_the_role_on_a_host(machine: Machine, tmp_path: Any) -> None:
    """Ansible itself, over the agent: change, no change."""
    play = {
        "hosts": "all", "gather_facts": False,
        "vars": {"tune_nic_nics": ["eth1"], "tune_nic_rules": [{"match": ["eth1"], "txqueuelen": 2000}]},
        "tasks": [{"name": "Tune", "ansible.builtin.import_role": {"name": "netops.fleet.tune_nic"}}],
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    host = {
        "ansible_connection": "guest",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_remote_tmp": "/tmp/ansible",
    }
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"gpu01": host}}}))
    environ = {
        **os.environ,
        "GUEST_PORT": str(machine.port),
        "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/lab/connection"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_NOCOLOR": "1",
    }
    recaps = []
    for _run in range(2):
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")],
            env=environ, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        recaps.append(re.findall(r"changed=(\d+)", done.stdout))
    assert recaps == [["2"], ["0"]]
    assert "qlen 2000" in machine.sh("ip link show eth1")


def test_at_the_next_boot_they_are_placed_again(machine: Machine) -> None:
    """The last one: it is another boot afterwards."""
    run(machine, "irq", "present", nics=["eth1"], reserve="0")
    wanted = affinities(machine, "eth1")
    machine.reboot()
    until(lambda: affinities(machine, "eth1") == wanted, 180)
    until(lambda: machine.sh("systemctl is-active netops-fleet-irq || true").strip() == "inactive")
    assert "irq 0000:" in machine.sh("journalctl -u netops-fleet-irq --no-pager -o cat -b")
    assert not run(machine, "irq", "present", nics=["eth1"], reserve="0")["changed"]
    assert machine.sh("systemctl is-active irqbalance").strip() == "active"
