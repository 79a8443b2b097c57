# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role remediate, run by Ansible in a namespace: shows, removes what was confirmed, connects, takes back."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._safety import records
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


@pytest.fixture
def no_record_left() -> Iterator[None]:
    before = set(os.listdir(records.FOLDER)) if os.path.isdir(records.FOLDER) else None
    yield
    if os.path.isdir(records.FOLDER):
        for name in set(os.listdir(records.FOLDER)) - (before or set()):
            os.unlink(os.path.join(records.FOLDER, name))
        if before is None:
            os.removedirs(records.FOLDER)


def test_shown_confirmed_proven_and_taken_back(ns: Any, no_record_left: None, tmp_path: Path) -> None:
    ns.run(["nft", "-f", "-"], input=_RULES)
    ns.start_python(_SERVER)

    def play(**more: Any) -> str:
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        }
        given = {"remediate_packet": _PACKET, "remediate_prove_timeout": 5, "ansible_python_interpreter": sys.executable, **more}
        argv = [
            "ansible-playbook",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            json.dumps(given),
            str(ROOT / "playbooks/remediate.yml"),
        ]
        done = ns.run([str(Path(sys.executable).parent / argv[0]), *argv[1:]], env=environment, timeout=120)
        return str(done.stdout)

    def rules() -> str:
        return str(ns.run(["nft", "list", "ruleset"]).stdout)

    before = rules()
    shown = play()
    assert "changed=0" in shown and "nft delete rule inet f i handle" in shown and rules() == before
    found = re.search(r'"id": "([0-9a-f]{16})"', shown)
    assert found is not None, shown
    # An id that was not shown removes nothing.
    assert "changed=0" in play(remediate_confirm=["0" * 16]) and rules() == before
    done = play(remediate_confirm=[found[1]])
    assert "changed=1" in done and "1678" not in rules(), done
    assert "changed=1" in play(remediate_undo=[found[1]]) and rules() == before
