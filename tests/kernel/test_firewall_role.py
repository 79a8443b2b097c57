# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role firewall_sets, run by Ansible in a namespace: sets, groups and folded lists, twice, and back."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.conftest import ROOT, Namespace

pytestmark = pytest.mark.kernel

_GIVEN = {
    "firewall_sets_groups": [
        {"name": "admins", "addresses": ["192.0.2.0/24", "2001:db8::/32"], "ports": ["tcp/22"]},
        {"name": "blocked", "addresses": ["203.0.113.0/24"], "action": "block"},
    ],
    "firewall_sets_sets": [{"name": "own", "type": "hash:net", "entries": ["198.51.100.0/24"]}],
    "firewall_sets_consolidate": True,
    "firewall_sets_deadman": 60,
}


def test_declared_twice_and_taken_back(ns: Namespace, tmp_path: Path) -> None:
    ns.run(["iptables", "-N", "DOCKER"])
    ns.run(["iptables", "-A", "FORWARD", "-j", "DOCKER"])
    ns.run(["iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"])
    listed = "".join(f"-A INPUT -s 198.51.100.{number}/32 -j DROP\n" for number in range(1, 41))
    ns.run(["iptables-restore", "--noflush"], input=f"*filter\n{listed}COMMIT\n")

    def rules() -> list[str]:
        """As iptables has them, without counters, and the names of sets and tables."""
        saved = ns.run(["iptables-save"]).stdout.splitlines()
        names = ns.run(["ipset", "list", "-n"]).stdout.split() + ns.run(["nft", "list", "tables"]).stdout.splitlines()
        return [line for line in saved if line.startswith("-A")] + sorted(names)

    before = rules()
    tasks = tmp_path / "play.yml"
    role = {"name": "Declare", "ansible.builtin.import_role": {"name": "netops.fleet.firewall_sets"}}
    back = {"name": "Go back", "netops.fleet.change_journal": {"state": "rolled_back"}}
    plays = {"forth": [role], "back": [back]}
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    library = tmp_path / "lib"
    library.mkdir()

    def play(name: str, *more: str) -> str:
        tasks.write_text(yaml.safe_dump([{"name": name, "hosts": "all", "gather_facts": False, "tasks": plays[name]}]))
        given: dict[str, Any] = {"ansible_python_interpreter": sys.executable, **_GIVEN}
        words = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", json.dumps(given), str(tasks), *more]
        # The journal of this machine is not the test's. Its parent is covered: other tests may remove the folder itself.
        script = 'mount --bind "$0" /var/lib && exec "$@"'
        done = ns.run(["sh", "-ec", script, str(library), *words], env=environment, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    assert "changed=3" in play("forth", "--check") and rules() == before
    done = play("forth")
    after = rules()
    assert not any("198.51.100." in line for line in after) and len([line for line in after if line.startswith("-A INPUT")]) == 2
    assert {"own", "table inet netops_groups"} <= set(after) and "-A FORWARD -j DOCKER" in after
    journal = library / "netops.fleet"
    assert (journal / "journal.jsonl").exists()
    assert not (journal / "deadman.json").exists(), "the new connection confirmed it"
    again = play("forth")
    assert re.search(r"changed=0 ", again), again
    assert rules() == after
    play("back")
    assert rules() == before, done
