# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What molecule/remediate verifies. In order; each test leaves what the next one needs. Connections of gpu04 are the witness.

Run by the scenario, with NETOPS_LAB (the lab's name).
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from tests.lab import faults, lasting, tuning
from tests.lab.lab import Host, Lab
from tests.lab.verify_tune import play, until

BROKEN = ("gpu01", "gpu02", "gpu03")
#: What stops the port there, as another tool of the host shows it.
SHOWN = {
    "gpu01": ("nft list ruleset", f"tcp dport {faults.PORT}"),
    "gpu02": ("systemctl is-active netsec-agent.service; systemctl is-enabled netsec-agent.service", "active"),
    "gpu03": ("iptables-legacy-save", f"--dport {faults.PORT}"),
}
FILES = {"gpu01": lasting.NFTABLES, "gpu03": lasting.RULES}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab.attach(os.environ["NETOPS_LAB"])


def run(lab: Lab, **more: Any) -> str:
    """The playbook over all four hosts, with each host's own address as the destination."""
    packet = {"source": lab.hosts["gpu04"].address, "destination": "{{ ansible_host }}", "destination_port": faults.PORT}
    given: dict[str, Any] = {"remediate_hosts": "gpu-nodes", "remediate_packet": packet, "remediate_prove_from": "gpu04"}
    given |= {"remediate_suspected": True, **more}
    status, output = play(lab, "playbooks/remediate.yml", variables=given)
    assert status == 0, output
    return output


def changed(output: str) -> dict[str, int]:
    found = re.findall(r"^(gpu\d+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)
    return {name: int(count) for name, count in found}


def stopped(host: Host) -> bool:
    command, words = SHOWN[host.name]
    return any(
        line.strip() == words or (words != "active" and words in line)
        for line in host.run(command, check=False).stdout.split("\n")
    )


def opens(lab: Lab) -> set[str]:
    source = lab.hosts["gpu04"]
    return {name for name in BROKEN if faults.connects(source, lab.hosts[name].address, timeout_s=2)}


def record(host: Host) -> str:
    return host.run("ls /var/lib/netops.fleet/remediate 2>/dev/null", check=False).stdout.strip()


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """What one test hands to the next."""
    return {}


def test_the_faults_are_there_after_a_boot_and_showing_changed_nothing(lab: Lab, kept: dict[str, Any]) -> None:
    assert opens(lab) == set() and all(stopped(lab.hosts[name]) for name in BROKEN)
    kept["files"] = {name: lab.hosts[name].run(["cat", path]).stdout for name, path in FILES.items()}
    output = run(lab)
    assert changed(output) == dict.fromkeys(("gpu01", "gpu02", "gpu03", "gpu04"), 0)
    assert opens(lab) == set() and not any(record(lab.hosts[name]) for name in BROKEN)
    kept["ids"] = re.findall(r'remediate_confirm\\*": \[\\*"([0-9a-f]{16})', output)
    assert len(set(kept["ids"])) == 3, output


def test_a_program_that_only_may_drop_is_named_and_left_unless_asked_for(lab: Lab) -> None:
    output = run(lab, remediate_suspected=False, remediate_hosts="gpu02")
    assert "netsec-agent" in output and "suspected programs" in output and "nothing to remove" in output, output


def test_an_id_that_was_not_shown_removes_nothing(lab: Lab) -> None:
    assert set(changed(run(lab, remediate_confirm=["0" * 16])).values()) == {0}
    assert opens(lab) == set()


def test_check_mode_says_what_it_would_do(lab: Lab, kept: dict[str, Any]) -> None:
    packet = {"source": lab.hosts["gpu04"].address, "destination": "{{ ansible_host }}", "destination_port": faults.PORT}
    given: dict[str, Any] = {"remediate_hosts": "gpu-nodes", "remediate_packet": packet, "remediate_confirm": kept["ids"]}
    given["remediate_suspected"] = True
    status, output = play(lab, "playbooks/remediate.yml", "--check", "--diff", variables=given)
    assert status == 0 and changed(output) == {"gpu01": 1, "gpu02": 1, "gpu03": 1, "gpu04": 0}, output
    assert "nft inet guard inbound handle" in output
    assert opens(lab) == set() and not any(record(lab.hosts[name]) for name in BROKEN)


def test_what_was_confirmed_is_removed_and_proven_by_a_connection(lab: Lab, kept: dict[str, Any]) -> None:
    output = run(lab, remediate_confirm=kept["ids"])
    assert changed(output) == {"gpu01": 1, "gpu02": 1, "gpu03": 1, "gpu04": 0}, output
    assert opens(lab) == set(BROKEN)
    for name in BROKEN:
        assert not stopped(lab.hosts[name]) and record(lab.hosts[name]), name
    # The neighbours of the rule are as they were.
    assert "dport 9100" in lab.hosts["gpu01"].run("nft list ruleset").stdout
    assert "--dport 9100" in lab.hosts["gpu03"].run("iptables-legacy-save").stdout


def test_a_second_run_has_nothing_to_do(lab: Lab, kept: dict[str, Any]) -> None:
    assert set(changed(run(lab, remediate_confirm=kept["ids"])).values()) == {0}


def test_it_stays_removed_after_a_reboot(lab: Lab) -> None:
    for name in BROKEN:
        tuning.reboot(lab.hosts[name])
    until(lambda: opens(lab) == set(BROKEN))  # the lab's hosts boot with a new MAC: neighbours forget the old one after a while
    assert not any(stopped(lab.hosts[name]) for name in BROKEN)


def test_it_is_taken_back_and_comes_back_at_boot_as_before(lab: Lab, kept: dict[str, Any]) -> None:
    output = run(lab, remediate_undo=kept["ids"])
    assert {name: count > 0 for name, count in changed(output).items()} == {
        "gpu01": True,
        "gpu02": True,
        "gpu03": True,
        "gpu04": False,
    }
    assert opens(lab) == set() and all(stopped(lab.hosts[name]) for name in BROKEN)
    assert {name: lab.hosts[name].run(["cat", path]).stdout for name, path in FILES.items()} == kept["files"]
    assert not any(record(lab.hosts[name]) for name in BROKEN)
    for name in BROKEN:
        tuning.reboot(lab.hosts[name])
    assert opens(lab) == set()


def test_a_removal_that_does_not_help_is_taken_back(lab: Lab) -> None:
    """The service is stopped: no connection is made, whatever is removed."""
    host = lab.hosts["gpu01"]
    host.run("systemctl stop model-server.service")
    before = host.run("nft list ruleset").stdout
    packet = {"source": lab.hosts["gpu04"].address, "destination": "{{ ansible_host }}", "destination_port": faults.PORT}
    given = {"remediate_packet": packet, "remediate_hosts": "gpu01"}
    status, output = play(lab, "playbooks/remediate.yml", variables=given)
    (number,) = set(re.findall(r'remediate_confirm\\*": \[\\*"([0-9a-f]{16})', output))
    more = {"remediate_confirm": [number], "remediate_prove_from": "gpu04", "remediate_prove_timeout": 3}
    status, output = play(lab, "playbooks/remediate.yml", variables={**given, **more})
    assert status != 0 and "was taken back" in output, output
    assert re.sub(r"packets \d+ bytes \d+", "", host.run("nft list ruleset").stdout) == re.sub(
        r"packets \d+ bytes \d+", "", before
    )
    host.run("systemctl start model-server.service")
