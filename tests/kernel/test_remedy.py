# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remediation against the kernel: shown, confirmed, removed, proven by a connection, gone from the boot file, and taken back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

_SERVER = """
import socket
server = socket.create_server(("10.77.0.2", 1678), backlog=16)
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""
_CLIENT = """
import json, socket
sock = socket.socket()
sock.settimeout(0.7)
try:
    sock.connect(("10.77.0.2", 1678))
    print(json.dumps(True))
except OSError:
    print(json.dumps(False))
"""
_DO = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import remedy, verdict, world
what, folder, file, confirm = sys.argv[1:5]
if what == "undo":
    print(json.dumps(remedy.undo(confirm, folder)))
    raise SystemExit
host = world.read()
packet = verdict.packet_of({"source": "10.77.0.1", "destination": "10.77.0.2", "destination_port": 1678}, host)
plan = remedy.plan(host, packet)
if what == "plan":
    print(json.dumps(plan.to_dict()))
else:
    try:
        remedy.remove(plan, confirm, [file], folder)
        print(json.dumps(""))
    except remedy.RemedyError as error:
        print(json.dumps(str(error)))
"""

_RULES = {
    "nft": (
        ["nft", "-f", "-"],
        "table inet f {\n\tchain i {\n\t\ttype filter hook input priority 0;\n\t\ttcp dport 22 accept\n"
        '\t\ttcp dport 1678 counter drop comment "tenant guard"\n\t\ttcp dport 80 accept\n\t}\n}\n',
        ["nft", "list", "ruleset"],
    ),
    "iptables-legacy": (
        ["iptables-legacy-restore"],
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n"
        '-A INPUT -p tcp -m tcp --dport 1678 -m comment --comment "tenant guard" -j DROP\n-A INPUT -p udp -j ACCEPT\nCOMMIT\n',
        ["iptables-legacy-save"],
    ),
    "iptables-nft": (
        ["iptables-nft-restore"],
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 1678 -j REJECT --reject-with tcp-reset\nCOMMIT\n",
        ["iptables-nft-save"],
    ),
}


@pytest.mark.parametrize("backend", _RULES)
def test_removed_as_shown_and_taken_back(pair: Any, tmp_path: Path, backend: str) -> None:
    left, right = pair
    load, text, listing = _RULES[backend]
    file, folder = tmp_path / "boot.rules", tmp_path / "records"
    file.write_text(text)
    right.run(load, input=text)
    right.start_python(_SERVER)

    def rules() -> list[str]:
        lines = right.run(listing).stdout.splitlines()
        kept = [line for line in lines if ("dport" in line or "udp" in line) and line[:1] != "#"]
        return [re.sub(r"packets \d+ bytes \d+", "", line) for line in kept]

    def do(what: str, confirm: str = "") -> Any:
        return right.python_json(_DO, what, str(folder), str(file), confirm)

    before = rules()
    assert left.python_json(_CLIENT) is False
    plan = do("plan")
    assert len(plan["steps"]) == 1 and not plan["obstacle"], plan
    assert "not" in do("remove", "0000000000000000") and rules() and left.python_json(_CLIENT) is False
    assert do("remove", plan["id"]) == ""
    assert left.python_json(_CLIENT) is True
    # What a boot would load has no such rule any more.
    assert "1678" not in file.read_text() and len(file.read_text().splitlines()) == len(text.splitlines()) - 1
    record = folder / f"{plan['id']}.json"
    assert json.loads(record.read_text())["steps"] and record.stat().st_mode & 0o777 == 0o600
    undone = do("undo", plan["id"])
    assert len(undone) == 2 and file.read_text() == text and not record.exists()
    assert rules() == before, "in its old place"
    assert left.python_json(_CLIENT) is False


def test_rules_of_another_program_are_left_alone(pair: Any, tmp_path: Path) -> None:
    _left, right = pair
    text = "*filter\n:INPUT ACCEPT [0:0]\n:DOCKER-ISOLATION-STAGE-1 - [0:0]\n-A INPUT -j DOCKER-ISOLATION-STAGE-1\n"
    text += "-A DOCKER-ISOLATION-STAGE-1 -p tcp -m tcp --dport 1678 -j DROP\nCOMMIT\n"
    right.run(["iptables-legacy-restore"], input=text)
    plan = right.python_json(_DO, "plan", str(tmp_path), "/nonexistent", "")
    assert not plan["steps"] and "docker" in plan["obstacle"]
    said = right.python_json(_DO, "remove", str(tmp_path), "/nonexistent", plan["id"])
    assert "nothing was changed" in said
    assert "1678" in right.run(["iptables-legacy-save"]).stdout
