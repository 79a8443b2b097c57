# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What molecule/firewall verifies, after playbooks/firewall.yml went over four hosts twice. In order; each test leaves what the
next one needs. The tools' listings and connections between the hosts are the witness.

Run by the scenario, with NETOPS_LAB (the lab's name), NETOPS_SNAPSHOTS (taken before the rollout) and NETOPS_REPORTS.
"""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.lab import faults, fences, tuning
from tests.lab import lab as labs
from tests.lab.lab import Host, Lab
from tests.lab.verify_tune import play

FOLD: dict[str, Any] = {"firewall_hosts": "gpu-nodes", "firewall_sets_consolidate": True, "rollout_window": 0.2}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab.attach(os.environ["NETOPS_LAB"])


@pytest.fixture(scope="module")
def before(lab: Lab) -> dict[str, dict[str, Any]]:
    folder = Path(os.environ["NETOPS_SNAPSHOTS"])
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in lab.hosts}


@pytest.fixture(scope="module")
def folded(lab: Lab) -> dict[str, dict[str, Any]]:
    """As the rollout left the hosts."""
    return each(lab, fences.snapshot)


def each(lab: Lab, function: Any) -> dict[str, Any]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(lab.hosts, pool.map(function, lab.hosts.values())))


def changed(output: str) -> dict[str, int]:
    found = re.findall(r"^(gpu\d+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)
    return {name: int(count) for name, count in found}


def verdicts(lab: Lab) -> dict[str, tuple[bool, bool]]:
    """Host → does it let in who is not on its list, and who is?"""
    found = {}
    for name, host in lab.hosts.items():
        allowed = next(one for one in lab.hosts if one not in (name, fences.BLOCKED[name]))
        found[name] = (
            faults.connects(lab.hosts[allowed], host.address),
            faults.connects(lab.hosts[fences.BLOCKED[name]], host.address, timeout_s=1.5),
        )
    return found


RIGHT = dict.fromkeys(fences.KINDS, (True, False))


def test_each_kind_was_planned_once_and_rolled_out_in_batches(lab: Lab) -> None:
    first, second = sorted(Path(os.environ["NETOPS_REPORTS"]).glob("tune-*"))
    told = json.loads((first / "firewall.json").read_text())
    assert [kind["hosts"] for kind in told["kinds"]] == [["gpu01", "gpu02"], ["gpu03"], ["gpu04"]]
    plans = {path.stem: path.read_text() for path in (first / "plans").glob("*.json")}
    assert set(plans) == {kind["fingerprint"] for kind in told["kinds"]}
    mark = told["kinds"][0]["fingerprint"]
    carried = lab.hosts["gpu02"].run(["cat", f"/var/lib/netops.fleet/plans/{mark}.json"]).stdout
    assert carried == plans[mark], "gpu02 has the plan that gpu01 made"
    assert lab.hosts["gpu02"].run("stat -c %a /var/lib/netops.fleet/plans/*.json").stdout.split() == ["600"]
    rollout = json.loads((first / "rollout.json").read_text())
    # One host of each kind goes first.
    assert rollout["batches"] == [["gpu01"], ["gpu03"], ["gpu04", "gpu02"]] and set(rollout["hosts"].values()) == {"new"}
    again = json.loads((second / "rollout.json").read_text())
    assert set(again["hosts"].values()) == {"unchanged"} and not (second / "plans").exists()


def test_lists_are_sets_and_docker_s_chains_are_untouched(
    lab: Lab, before: dict[str, dict[str, Any]], folded: dict[str, dict[str, Any]]
) -> None:
    for name, found in folded.items():
        kind = fences.KINDS[name]
        if kind == "native":
            (rule,) = re.findall(r".*\bdrop\b.*", found["rules"]["nft list ruleset"])
            assert "@nf_drop_src_" in rule and "203.0.113." in found["rules"]["nft list ruleset"]
        else:
            saved = found["rules"][f"iptables-{kind}-save"]
            assert saved.count("-j DROP") == 1 and "203.0.113." not in saved
            assert found["rules"]["ipset save"].count("add nf_") == fences.COUNT
        docker = fences.foreign(before[name]["rules"])
        assert len(docker) >= 8 and fences.foreign(found["rules"]) == docker
        assert found["files"] != before[name]["files"], "the next boot was changed too"
    assert verdicts(lab) == RIGHT


def test_what_was_applied_stands_and_reading_it_changes_nothing(
    lab: Lab, folded: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    status, output = play(
        lab, "playbooks/firewall_drift.yml", variables={"firewall_hosts": "gpu-nodes", "firewall_sets_output": str(tmp_path)}
    )
    assert status == 0 and set(changed(output).values()) == {0}, output
    told = json.loads((tmp_path / "firewall.json").read_text())
    assert told["applied"] == {"stands": list(fences.KINDS), "changed": {}} and told["moved"] == [], output
    assert [kind["hosts"] for kind in told["kinds"]] == [["gpu01", "gpu02"], ["gpu03"], ["gpu04"]]
    assert each(lab, fences.snapshot) == folded


def test_a_reboot_keeps_sets_and_rules(lab: Lab, folded: dict[str, dict[str, Any]]) -> None:
    each(lab, tuning.reboot)
    now = each(lab, fences.snapshot)
    for name in folded:
        assert now[name] == folded[name], name
    assert verdicts(lab) == RIGHT


def test_the_way_back_is_the_way_it_was(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    status, output = play(lab, "playbooks/rollback.yml")
    assert status == 0, output
    assert each(lab, fences.snapshot) == before


def test_check_mode_touches_nothing(lab: Lab, before: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    journals = each(lab, _journal)
    status, output = play(lab, "playbooks/firewall.yml", "--check", "--diff", variables={**FOLD, "rollout_output": str(tmp_path)})
    assert status == 0 and all(count > 0 for count in changed(output).values()), output
    assert "203.0.113.7" in output, "the difference is shown"
    assert each(lab, fences.snapshot) == before and each(lab, _journal) == journals


def _journal(host: Host) -> str:
    return host.run("cd /var/lib/netops.fleet && find . -type f -newermt @0 -exec sha256sum {} + | sort").stdout


def test_one_host_that_moved_is_refused_the_plan_of_the_others(lab: Lab, before: dict[str, dict[str, Any]]) -> None:
    """gpu02 is given a rule of its own: it is another kind now, and gpu01's plan is not for it."""
    host = lab.hosts["gpu02"]
    host.run("nft add rule inet fence input tcp dport 9100 accept")
    made = host.run("nft -a list chain inet fence input | grep 9100").stdout
    answer = _module(lab, "gpu01", state="planned")
    path = f"/var/lib/netops.fleet/plans/{answer['fingerprint']}.json"
    text = lab.hosts["gpu01"].run(["cat", path]).stdout
    host.run(["install", "-m", "0600", "/dev/stdin", path], input=text.encode())
    refused = _module(lab, "gpu02", state="applied", path=path)
    assert refused["failed"] and "the rules of this host are not those of the plan" in refused["msg"], refused
    host.run(f"nft delete rule inet fence input handle {made.split('handle ')[1].strip()}")
    assert fences.snapshot(host) == before["gpu02"]


def _module(lab: Lab, name: str, **arguments: Any) -> dict[str, Any]:
    from tests.lab.verify_tune import module

    return module(lab, name, "firewall_consolidate", **arguments)


def test_a_lock_out_is_ended_by_the_host(lab: Lab, before: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Folding, and groups that leave the controller out, in one rollout: nobody can confirm it, so the host takes it back."""
    name = "gpu04"
    host = lab.hosts[name]
    groups = [{"name": "admins", "addresses": ["192.0.2.0/24"], "ports": ["tcp/22"]}]
    given = {**FOLD, "firewall_hosts": name, "firewall_sets_groups": groups, "firewall_sets_lockout": True}
    given |= {"firewall_sets_deadman": 40, "rollout_timeout": 120, "rollout_output": str(tmp_path)}
    status, output = play(lab, "playbooks/firewall.yml", variables=given)
    assert status != 0, output
    told = json.loads(next(tmp_path.glob("tune-*/rollout.json")).read_text())
    assert "lost" in told["reasons"][name] or "reached" in told["reasons"][name], told
    deadline = time.monotonic() + 180
    while not labs._answers(host.address, 22):
        assert time.monotonic() < deadline, "the host did not come back"
        time.sleep(0.2)
    while host.run("ls /var/lib/netops.fleet/deadman.json", check=False).returncode == 0:
        assert time.monotonic() < deadline, "the way back did not end"
        time.sleep(0.2)
    assert "nobody confirmed the change" in host.run("tail -n 1 /var/lib/netops.fleet/history.jsonl").stdout
    assert fences.snapshot(host) == before[name]
    assert verdicts(lab)[name] == (True, False)
