# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role remediate, run by Ansible in a namespace: shows, removes what was confirmed, connects, takes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import ROOT

pytestmark = pytest.mark.kernel

_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 1678), backlog=8)
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""
_RULES = "table inet f {\nchain i { type filter hook input priority 0;\ntcp dport 1678 drop\ntcp dport 80 accept\n}\n}\n"
_PACKET = {"destination": "127.0.0.1", "source": "127.0.0.1", "interface": "lo", "destination_port": 1678}


def play(ns: Any, home: Path, inside: bool = True, **more: Any) -> str:
    """The playbook on this machine, run in the namespace or told to look into it."""
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    given = {"remediate_packet": _PACKET, "remediate_prove_timeout": 5, "ansible_python_interpreter": sys.executable, **more}
    library = home / "lib"
    library.mkdir(exist_ok=True)
    # What was removed is recorded in a folder of the test's own, not in this machine's.
    script = 'mount --bind "$0" /var/lib && exec "$@"'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, str(library)]
    argv += [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "-e", json.dumps(given)]
    argv.append(str(ROOT / "playbooks/remediate.yml"))
    done = subprocess.run(
        ns.argv(argv) if inside else argv, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules(ns: Any) -> str:
    return str(ns.run(["nft", "list", "ruleset"]).stdout)


def plan_of(shown: str) -> str:
    found = re.search(r'"id": "([0-9a-f]{16})"', shown)
    assert found is not None, shown
    return found[1]


def test_shown_confirmed_proven_and_taken_back(ns: Any, tmp_path: Path) -> None:
    ns.run(["nft", "-f", "-"], input=_RULES)
    ns.start_python(_SERVER)
    before = rules(ns)
    shown = play(ns, tmp_path)
    assert "changed=0" in shown and "nft delete rule inet f i handle" in shown and rules(ns) == before
    # An id that was not shown removes nothing.
    assert "changed=0" in play(ns, tmp_path, remediate_confirm=["0" * 16]) and rules(ns) == before
    done = play(ns, tmp_path, remediate_confirm=[plan_of(shown)])
    assert "changed=1" in done and "1678" not in rules(ns), done
    assert "changed=1" in play(ns, tmp_path, remediate_undo=[plan_of(shown)]) and rules(ns) == before


def test_a_namespace_that_the_caller_names(ns: Any, tmp_path: Path) -> None:
    ns.run(["nft", "-f", "-"], input=_RULES)
    before = rules(ns)
    given = {"inside": False, "remediate_netns": ns.name, "remediate_prove": False}
    number = plan_of(play(ns, tmp_path, **given))
    assert "changed=1" in play(ns, tmp_path, remediate_confirm=[number], **given) and "1678" not in rules(ns)
    assert "changed=1" in play(ns, tmp_path, remediate_undo=[number], **given) and rules(ns) == before
