# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab does what the tests above it rely on: real hosts, faults that break exactly what they say, a way back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.lab import engine, faults
from tests.lab.engine import LabError
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

#: Settings without a namespace: a host sees the machine's, and must not change them.
SHARED = ("abi", "dev", "fs", "kernel", "vm")
#: These change by themselves.
MOVING = (
    "random/",
    "fs/file-nr",
    "fs/inode",
    "fs/dentry-state",
    "fs/aio-nr",
    "fs/quota",
    "kernel/ns_last_pid",
    "kernel/hung_task_detect",
)


def shared_settings() -> dict[str, str]:
    found = {}
    for top in SHARED:
        for path in Path("/proc/sys", top).rglob("*"):
            name = str(path.relative_to("/proc/sys"))
            if path.is_file() and not any(part in name for part in MOVING):
                try:
                    found[name] = path.read_text(errors="replace")
                except OSError:
                    continue
    return found


def test_every_host_is_a_running_system_with_its_own_network(fleet: Lab) -> None:
    for host in fleet.hosts.values():
        assert host.run("hostname").stdout.strip() == host.name
        assert host.run("systemctl is-system-running").stdout.strip() == "running"
        links = json.loads(host.run("ip -j address show dev eth0").stdout)
        assert {host.address, host.address6} <= {entry["local"] for entry in links[0]["addr_info"]}
        assert host.run("nft list ruleset").stdout == ""


def test_the_resolver_answers_and_knows_the_fleet(fleet: Lab) -> None:
    first, second = fleet.hosts.values()
    assert first.run("cat /etc/resolv.conf").stdout.startswith("nameserver 127.0.0.53\n")
    answer = first.run(["resolvectl", "query", "--cache=no", "--legend=no", second.name]).stdout
    assert second.address in answer
    assert second.address6 in answer


def test_hosts_reach_each_other_and_nothing_else(fleet: Lab) -> None:
    first, second = fleet.hosts.values()
    assert faults.connects(first, second.address)
    assert faults.connects(first, second.address6)
    assert fleet.net is not None
    first.run(["ping", "-c1", "-W2", fleet.net.gateway[0]])
    # The default route ends at a gateway that forwards nothing.
    assert first.run(["ping", "-c1", "-W1", "192.0.2.1"], check=False).returncode != 0


def test_a_host_cannot_change_settings_of_the_machine(fleet: Lab) -> None:
    before = shared_settings()
    host = fleet.hosts["gpu01"]
    for path in ("/proc/sys/vm/swappiness", "/proc/sys/fs/nr_open", "/proc/sys/kernel/pid_max"):
        refused = host.run(f"cat {path} >{path}", check=False)
        assert refused.returncode != 0
        assert "Read-only" in refused.stderr or "cannot create" in refused.stderr
    host.run("echo 17 >/proc/sys/net/ipv4/tcp_fin_timeout")  # has a namespace: the host's own
    assert shared_settings() == before


def test_ssh_checks_the_hosts_key(fleet: Lab, tmp_path: Path) -> None:
    first = fleet.hosts["gpu01"]
    known = (fleet.folder / "known_hosts").read_text().splitlines()
    swapped = tmp_path / "known_hosts"
    swapped.write_text(f"{first.address} {' '.join(known[1].split()[1:])}\n")
    options = [word.replace(str(fleet.folder / "known_hosts"), str(swapped)) for word in fleet.ssh]
    done = subprocess.run([*options, f"root@{first.address}", "true"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert fleet.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", sorted(set(faults.FAULTS) - {"proxied_sender"}))
def test_a_fault_breaks_the_port_and_its_revert_mends_it(fleet: Lab, name: str) -> None:
    source, host = fleet.hosts["gpu01"], fleet.hosts["gpu02"]
    assert faults.connects(source, host.address)
    try:
        faults.apply(host, name)
        assert not faults.connects(source, host.address, timeout_s=1.5)
        assert faults.connects(host, "127.0.0.1") or name == "nft_drop" or name == "iptables_legacy_drop"
    finally:
        faults.apply(host, name, "revert")
    assert faults.connects(source, host.address)


def test_a_proxied_sender_gets_an_answer_where_the_port_is_dropped(fleet: Lab) -> None:
    source, host = fleet.hosts["gpu01"], fleet.hosts["gpu02"]
    try:
        faults.apply(host, "nft_drop")
        assert not faults.connects(source, host.address, timeout_s=1.5)
        faults.apply(source, "proxied_sender")
        assert faults.connects(source, host.address)
    finally:
        faults.apply(source, "proxied_sender", "revert")
        faults.apply(host, "nft_drop", "revert")
    assert faults.connects(source, host.address)


def test_the_agent_hooks_five_programs_and_only_one_drops(fleet: Lab) -> None:
    source, host = fleet.hosts["gpu01"], fleet.hosts["gpu02"]
    host.run("systemctl start netsec-agent.service")
    try:
        programs = faults.programs_of(host, "netsec-agent.service")
        assert sorted(programs) == ["nsa_audit_in", "nsa_flow_in", "nsa_flow_out", "nsa_meter", "nsa_syn_guard"]
        assert host.run("cat /proc/$(systemctl show -P MainPID netsec-agent)/comm").stdout.strip() == "netsec-agent"
        # Other ports and IPv6 pass: the dropper looks at what it says it looks at.
        assert faults.connects(source, host.address, 22)
        assert faults.connects(source, host.address6)
        assert not faults.connects(source, host.address, timeout_s=1.5)
    finally:
        host.run("systemctl stop netsec-agent.service")
    assert "clsact" not in host.run("tc qdisc show dev eth0").stdout
    for number in programs.values():
        assert host.run(["bpftool", "prog", "show", "id", str(number)], check=False).returncode != 0


def test_errors_say_what_to_do(fleet: Lab) -> None:
    with pytest.raises(LabError, match=r"python -m tests\.lab down --name"):
        Lab(fleet.name).up()
    with pytest.raises(LabError, match=r"python -m tests\.lab up --name nosuch"):
        Lab.attach("nosuch")
    with pytest.raises(LabError, match="lower-case letters"):
        Lab("Not A Name")
    assert fleet.name in [path.name for path in (engine.CACHE / "labs").iterdir()]
