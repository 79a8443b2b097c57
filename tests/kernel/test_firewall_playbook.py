# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/firewall.yml over four hosts of three kinds, each in namespaces of its own: one plan for each kind, twice, drift.

Over SSH, with reboots and a lock-out: molecule/firewall.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import consolidate
from tests.kernel.conftest import ROOT, Namespace

pytestmark = pytest.mark.kernel

KINDS = {"gpu01": "native", "gpu02": "native", "gpu03": "nft", "gpu04": "legacy"}
COUNT = 40
#: Of its own are its journal and plans; systemd of this machine is not the host's.
_HOST = 'mount --bind "$0" /var/lib && mount -t tmpfs none /run/systemd && echo ready && exec sleep 3600'


class Fleet:
    def __init__(self, make_ns: Callable[[], Namespace], folder: Path) -> None:
        self.folder = folder
        self.hosts = {name: make_ns() for name in KINDS}
        self.library: dict[str, Path] = {}
        listed: dict[str, Any] = {}
        for name, ns in self.hosts.items():
            self.library[name] = folder / name
            self.library[name].mkdir()
            os.makedirs("/run/systemd", exist_ok=True)
            process = ns.start(["unshare", "-m", "--propagation", "private", "sh", "-ec", _HOST, str(folder / name)], "ready")
            listed[name] = {"namespaced_pid": process.pid}
            consolidate.load(ns, consolidate.blocked(COUNT, KINDS[name]), KINDS[name])
            ns.run(["iptables-nft", "-N", "DOCKER-USER"])
            ns.run(["iptables-nft", "-A", "FORWARD", "-o", f"br-{int(name[-1]):012x}", "-j", "DOCKER-USER"])
        common = {"ansible_connection": "namespaced", "ansible_python_interpreter": sys.executable}
        common["ansible_remote_tmp"] = "/var/lib/tmp"
        self.inventory = folder / "hosts.json"
        self.inventory.write_text(json.dumps({"all": {"children": {"gpu-nodes": {"hosts": listed, "vars": common}}}}))

    def play(self, name: str, *words: str, **variables: Any) -> str:
        given = {"rollout_output": str(self.folder / "out"), "rollout_window": 0, "rollout_worst": "none", **variables}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SSH_")} | {
            "HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests" / "kernel" / "connection"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        }
        argv = ["ansible-playbook", "-i", str(self.inventory), f"playbooks/{name}.yml", "-e", json.dumps(given), *words]
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rules(self) -> dict[str, str]:
        """Everything, as the tools of each host list it."""
        found = {}
        for name, ns in self.hosts.items():
            listed = [consolidate.save(ns, backend) for backend in ("native", "nft", "legacy")]
            found[name] = "\n".join([*listed, *sorted(ns.run(["ipset", "save"]).stdout.split("\n"))])
        return found

    def files(self) -> dict[str, list[str]]:
        return {
            name: sorted(f"{path} {path.stat().st_mtime_ns}" for path in folder.rglob("*") if path.is_file())
            for name, folder in self.library.items()
        }


def changed(output: str) -> dict[str, int]:
    found = re.findall(r"^(gpu\d+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)
    return {name: int(count) for name, count in found}


def docker(rules: dict[str, str]) -> dict[str, list[str]]:
    """Lines of others, with what follows the name of their table or chain."""
    words = ("DOCKER", "f2b", "172.17", "theirs")
    return {name: [line for line in text.split("\n") if any(word in line for word in words)] for name, text in rules.items()}


@pytest.fixture
def fleet(make_ns: Callable[[], Namespace], tmp_path: Path) -> Fleet:
    return Fleet(make_ns, tmp_path)


def test_one_plan_for_each_kind_twice_and_drift(fleet: Fleet) -> None:
    before = fleet.rules()
    given = {"firewall_sets_consolidate": True, "firewall_sets_persist": False}

    output = fleet.play("firewall", "--check", "--diff", **given)
    assert set(changed(output)) == set(KINDS) and min(changed(output).values()) > 0
    assert consolidate.address(7) in output, "the difference is shown"
    assert fleet.rules() == before and set(map(tuple, fleet.files().values())) == {()}, "check mode touches nothing"

    fleet.play("firewall", **given)
    (first,) = [path.parent for path in (fleet.folder / "out").glob("*/plans")]
    after = fleet.rules()
    told = json.loads((first / "firewall.json").read_text())
    assert [kind["hosts"] for kind in told["kinds"]] == [["gpu01", "gpu02"], ["gpu03"], ["gpu04"]]
    rollout = json.loads((first / "rollout.json").read_text())
    assert set(rollout["hosts"].values()) == {"new"}
    assert rollout["batches"] == [["gpu01"], ["gpu03"], ["gpu04", "gpu02"]], "one host of each kind goes first"
    mark = told["kinds"][0]["fingerprint"]
    made, carried = (fleet.library[name] / "netops.fleet" / "plans" / f"{mark}.json" for name in ("gpu01", "gpu02"))
    assert made.read_bytes() == carried.read_bytes() == (first / "plans" / f"{mark}.json").read_bytes()
    assert {oct(path.stat().st_mode & 0o777) for path in (carried, carried.parent)} == {"0o600", "0o700"}
    assert {oct(path.stat().st_mode & 0o777) for path in (first / "plans").iterdir()} == {"0o600"}
    for name, kind in KINDS.items():
        rules = [line for line in after[name].split("\n") if re.search(r"(-j DROP|\bdrop\b)", line)]
        assert len(rules) < 5 and any(f"{'@' if kind == 'native' else ''}nf_" in line for line in rules), rules
        assert not (fleet.library[name] / "netops.fleet" / "deadman.json").exists(), "confirmed"
    assert docker(after) == docker(before), "chains of others are untouched, byte for byte"

    output = fleet.play("firewall", **given)
    assert set(changed(output).values()) == {0}, output
    assert fleet.rules() == after

    fleet.hosts["gpu02"].run(["nft", "add", "rule", "inet", "fence", "input", "tcp", "dport", "9", "accept"])
    files = fleet.files()
    output = fleet.play("firewall_drift", firewall_sets_output=str(fleet.folder / "drift"))
    told = json.loads((fleet.folder / "drift" / "firewall.json").read_text())
    assert [kind["hosts"] for kind in told["kinds"]] == [["gpu01"], ["gpu02"], ["gpu03"], ["gpu04"]]
    assert told["applied"] == {"stands": list(KINDS), "changed": {}}, "the new rule is beside what was applied"
    match = ["-m", "set", "--match-set", _set_of(after["gpu04"]), "src", "-j", "DROP"]
    fleet.hosts["gpu04"].run(["iptables-legacy", "-D", "INPUT", *match])
    fleet.play("firewall_drift", firewall_sets_output=str(fleet.folder / "drift"))
    told = json.loads((fleet.folder / "drift" / "firewall.json").read_text())
    assert list(told["applied"]["changed"]) == ["gpu04"] and told["applied"]["stands"] == ["gpu01", "gpu02", "gpu03"]
    assert fleet.files() == files, "reading writes nothing"


def _set_of(rules: str) -> str:
    found = re.search(r"--match-set (nf_\S+) src", rules)
    assert found is not None, rules
    return found[1]
