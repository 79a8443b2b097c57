# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role firewall_sets, run by Ansible in a namespace: sets, groups and folded lists, twice, and back."""

from __future__ import annotations

import json
import os
import re
import subprocess
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


_ROLE = {"name": "Declare", "ansible.builtin.import_role": {"name": "netops.fleet.firewall_sets"}}
_BACK = {"name": "Go back", "netops.fleet.change_journal": {"state": "rolled_back"}}
#: Takes back what waits as soon as the task that confirms it begins, as the dead-man's timer would that is faster.
_FASTER = """
import subprocess, sys
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_NAME = 2.0, "faster"
    def v2_playbook_on_task_start(self, task, is_conditional):
        if task.get_name().endswith("Confirm the change"):
            subprocess.run([sys.executable, "/var/lib/netops.fleet/journal.pyz", "expire"], check=True, stdout=sys.stderr)
"""


def play(
    ns: Namespace, folder: Path, task: dict[str, Any], given: dict[str, Any], *more: str, callbacks: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one task by Ansible inside. The journal is in ``folder``/lib/netops.fleet. callbacks: a folder of plugins."""
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        **({"ANSIBLE_CALLBACK_PLUGINS": callbacks} if callbacks else {}),
    }
    library, tasks = folder / "lib", folder / "play.yml"
    library.mkdir(exist_ok=True)
    tasks.write_text(yaml.safe_dump([{"name": "Play", "hosts": "all", "gather_facts": False, "tasks": [task]}]))
    variables = json.dumps({"ansible_python_interpreter": sys.executable, **given})
    words = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", variables, str(tasks), *more]
    # The journal of this machine is not the test's. Its parent is covered: other tests may remove the folder itself.
    script = 'mount --bind "$0" /var/lib && exec "$@"'
    return ns.run(["sh", "-ec", script, str(library), *words], env=environment, timeout=240, check=False)


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

    def forth(*more: str) -> str:
        done = play(ns, tmp_path, _ROLE, _GIVEN, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    assert "changed=3" in forth("--check") and rules() == before
    done = forth()
    after = rules()
    assert not any("198.51.100." in line for line in after) and len([line for line in after if line.startswith("-A INPUT")]) == 2
    assert {"own", "table inet netops_groups"} <= set(after) and "-A FORWARD -j DOCKER" in after
    journal = tmp_path / "lib" / "netops.fleet"
    assert (journal / "journal.jsonl").exists()
    assert not (journal / "deadman.json").exists(), "the new connection confirmed it"
    again = forth()
    assert re.search(r"changed=0 ", again), again
    assert rules() == after
    back = play(ns, tmp_path, _BACK, _GIVEN)
    assert back.returncode == 0, back.stdout + back.stderr
    assert rules() == before, done


def test_a_change_that_was_taken_back_before_its_confirmation_is_an_error(ns: Namespace, tmp_path: Path) -> None:
    callbacks = tmp_path / "callbacks"
    callbacks.mkdir()
    (callbacks / "faster.py").write_text(_FASTER)
    given = {**_GIVEN, "firewall_sets_consolidate": False}
    done = play(ns, tmp_path, _ROLE, given, callbacks=str(callbacks))
    assert done.returncode != 0, done.stdout + done.stderr
    assert re.search(r"change \S+ is not in force any more: nobody confirmed it in time", done.stdout + done.stderr)
    assert ns.run(["ipset", "list", "-n"]).stdout == "" == ns.run(["nft", "list", "tables"]).stdout


def test_what_goes_for_good_is_confirmed_too(ns: Namespace, tmp_path: Path) -> None:
    """Set and groups go, and with the last of it the journal's lines: the first confirmation was for both."""
    given = {**_GIVEN, "firewall_sets_consolidate": False}
    for state in ("present", "absent"):
        done = play(ns, tmp_path, _ROLE, {**given, "firewall_sets_state": state})
        assert done.returncode == 0, done.stdout + done.stderr
    assert ns.run(["ipset", "list", "-n"]).stdout == "" == ns.run(["nft", "list", "tables"]).stdout
    assert not (tmp_path / "lib" / "netops.fleet" / "deadman.json").exists()
