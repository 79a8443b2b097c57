# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sysctl_tuning as root of a whole machine: the keys that only the initial network namespace has, and those of loadable modules.

sysctl(8), systemd-sysctl and udev of a distribution are the witnesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.machine import Machine
from tests.lab.tuning import MOVING

pytestmark = [pytest.mark.lab, pytest.mark.machine, pytest.mark.drill]

_RUN = """
from ansible_collections.netops.fleet.plugins.module_utils._tuning import tune
params = {name: spec.get("default") for name, spec in tune.ARGUMENTS.items()}
given, check = args
result = tune.run(tune.Options.from_params({**params, **given}), check)
"""
#: A gateway with a far peer: every part of the profiles, and both buffers above the kernel's default.
GATEWAY: dict[str, Any] = {
    "profile": "gateway",
    "link_mbit": 100000.0,
    "paths": [{"name": "near", "rtt_ms": 0.2, "mbit": None}, {"name": "far", "rtt_ms": 40.0, "mbit": 1000.0}],
    "flows": 2,
    "connections": 100000,
    "neighbours": 4000,
}
#: Keys of the whole machine that this profile changes on a stock kernel.
GLOBAL = (
    "net.core.rmem_max", "net.core.wmem_max", "net.core.netdev_max_backlog", "net.core.default_qdisc",
    "net.ipv4.neigh.default.gc_thresh3", "net.ipv6.neigh.default.gc_thresh3", "fs.file-max",
)  # fmt: skip
CONNTRACK = "net.netfilter.nf_conntrack_max"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine(cpus=2, nodes=1) as running:
        yield running


def tune(machine: Machine, check: bool = False, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = machine.call(_RUN, given, check)
    return found


def value(machine: Machine, name: str) -> str:
    return " ".join(machine.run(["sysctl", "-n", name]).out.split())


def snapshot(machine: Machine) -> list[str]:
    shown = machine.run(["sysctl", "-a"]).out.splitlines()
    kept = [line for line in shown if not any(word in line.split(" = ")[0] for word in MOVING)]
    files = machine.sh("find /etc -type f -exec sha256sum {} + ; find /etc -type d -o -type l | sort").splitlines()
    return sorted(kept + files)


def test_the_whole_machine_is_tuned_and_returns(machine: Machine) -> None:
    """Applied, nothing to do the second time, applied again by systemd-sysctl, rolled back to the same sysctl -a and files."""
    # systemd gives fs.file-max the greatest value there is.
    machine.sh("modprobe nf_conntrack; modprobe tcp_bbr; sysctl -qw fs.file-max=100000")
    before = snapshot(machine)
    shown = tune(machine, check=True, **GATEWAY)
    assert snapshot(machine) == before, "check mode changed something"
    done = tune(machine, **GATEWAY)
    assert done["changes"] == shown["changes"]
    plan = {item["key"]: item for item in done["plan"]}
    assert done["skipped_keys"] == {}, "root of the initial namespace may set every key of the profile"
    for name in GLOBAL:
        assert plan[name]["action"] == "set", (name, plan[name])
    for item in done["plan"]:
        assert value(machine, item["key"]) == item["wanted"]
    assert value(machine, "net.ipv4.tcp_congestion_control") == "bbr" and value(machine, "net.core.default_qdisc") == "fq"
    assert tune(machine, **GATEWAY)["changed"] is False
    # What a boot does: the kernel's values, then systemd-sysctl.
    for item in done["plan"]:
        machine.run(["sysctl", "-qw", f"{item['key']}={item['present']}"])
    machine.sh("systemctl restart systemd-sysctl.service")
    for item in done["plan"]:
        assert value(machine, item["key"]) == item["boot"]["value"] == item["wanted"]
    back = tune(machine, state="absent")
    assert back["changed"] is True and back["warnings"] == []
    assert snapshot(machine) == before


def test_keys_of_a_module_that_comes_later_are_applied_when_it_comes(machine: Machine) -> None:
    """The udev rule, by udev itself: the module goes, comes again, and has the planned values, where sysctl.d came too early."""
    machine.sh("modprobe nf_conntrack")
    was = value(machine, CONNTRACK)
    wanted = str(2 * int(was))
    settings = {CONNTRACK: int(wanted), "net.netfilter.nf_conntrack_buckets": int(wanted)}
    assert tune(machine, settings=settings)["changed"] is True
    machine.sh("rmmod nf_conntrack; modprobe nf_conntrack; udevadm settle")
    assert value(machine, CONNTRACK) == wanted
    assert tune(machine, settings=settings)["changed"] is False
    machine.sh("rmmod nf_conntrack")
    gone = tune(machine, settings=settings)
    assert "comes with the module nf_conntrack, which is not loaded" in gone["skipped_keys"][CONNTRACK]
    machine.sh("modprobe nf_conntrack; udevadm settle")
    assert tune(machine, state="absent")["changed"] in (True, False)
    assert value(machine, CONNTRACK) == was
    assert machine.sh("ls /etc/sysctl.d /etc/udev/rules.d | grep netops || true") == ""


def test_new_namespaces_start_with_the_hosts_values_and_old_ones_keep_theirs(machine: Machine) -> None:
    """As docs/tuning.md tells of running containers."""
    machine.sh("ip netns add old")
    tune(machine, settings={"net.ipv4.tcp_rmem": "4096 131072 16777216", "net.core.rmem_max": 16777216})
    machine.sh("ip netns add new")
    seen = {name: machine.run(["sysctl", "-n", "net.ipv4.tcp_rmem"], netns=name).out.split()[2] for name in ("old", "new")}
    machine.sh("ip netns del old; ip netns del new")
    tune(machine, state="absent")
    assert seen["new"] == "16777216" and seen["old"] != "16777216"
