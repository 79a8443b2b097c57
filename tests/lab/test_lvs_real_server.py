# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role lvs_real_server on a systemd host: in order, silent on the segment, proven, and out again without a trace."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import tuning
from tests.lab.lab import Host, Lab
from tests.tools import BIN, ROOT

pytestmark = pytest.mark.lab

FILES = ("/etc/systemd/system/netops-lvs-vip.service", "/etc/sysctl.d/90-netops-lvs-real-server.conf")


class Server:
    """The second host as a real server for an address that the first one holds, as a director does."""

    def __init__(self, fleet: Lab, folder: Path) -> None:
        assert fleet.net is not None
        self.fleet, self.folder = fleet, folder
        self.director, self.host = fleet.hosts.values()
        self.vip, self.vip6 = fleet.net.address(201)

    def play(self, *words: str, **variables: Any) -> tuple[int, str]:
        play = [
            {
                "hosts": self.host.name,
                "gather_facts": False,
                "tasks": [{"name": "Serve", "ansible.builtin.import_role": {"name": "netops.fleet.lvs_real_server"}}],
            }
        ]
        (self.folder / "play.yml").write_text(json.dumps(play))
        given = {"lvs_real_server_addresses": [self.vip, self.vip6], "lvs_real_server_links": ["eth0"], **variables}
        argv = [str(BIN / "ansible-playbook"), "-i", str(self.fleet.inventory), str(self.folder / "play.yml")]
        environ = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(self.folder),
        }
        done = subprocess.run(
            [*argv, *words, "-e", json.dumps(given)], env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=600, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def changed(self, *words: str, **variables: Any) -> int:
        """How many tasks changed something, of a run that must succeed."""
        status, said = self.play(*words, **variables)
        assert status == 0, said[-4000:]
        found = re.search(r"changed=(\d+)", said)
        assert found
        return int(found[1])

    def state(self) -> dict[str, Any]:
        """What the role is about."""
        host: Host = self.host
        shown = json.loads(host.run("ip -j address show dev lo").stdout)[0]["addr_info"]
        names = [f"net.ipv4.conf.{link}.{key}" for link in ("all", "eth0") for key in ("arp_ignore", "arp_announce")]
        return {
            "lo": sorted(f"{one['local']}/{one['prefixlen']}" for one in shown),
            "sysctls": host.run(["sysctl", "-n", *names]).stdout.split(),
            "files": [path for path in FILES if host.run(f"test -e {path}", check=False).returncode == 0],
            "enabled": host.run("systemctl is-enabled netops-lvs-vip.service", check=False).stdout.strip() == "enabled",
        }


@pytest.fixture
def server(fleet: Lab, tmp_path: Path) -> Iterator[Server]:
    made = Server(fleet, tmp_path)
    made.director.run(f"ip address add {made.vip}/32 dev eth0; ip address add {made.vip6}/128 dev eth0 nodad")
    try:
        yield made
    finally:
        made.play(lvs_real_server_state="absent")
        made.director.run(f"ip address del {made.vip}/32 dev eth0; ip address del {made.vip6}/128 dev eth0")


def test_in_and_out_again(server: Server) -> None:
    before = server.state()
    assert server.changed("--check") > 0 and server.state() == before
    assert server.changed() > 0
    serving = {
        "lo": sorted([*before["lo"], f"{server.vip}/32", f"{server.vip6}/128"]),
        "sysctls": ["1", "2", "1", "2"],
        "files": list(FILES),
        "enabled": True,
    }
    assert server.state() == serving
    assert server.changed() == 0
    server.host.run("rm -f /etc/systemd/system/systemd-sysctl.service")  # the lab's hosts leave it out
    tuning.reboot(server.host)
    assert server.state() == serving
    assert server.changed() == 0
    assert server.changed(lvs_real_server_state="absent") > 0
    assert server.state() == before
    assert server.changed(lvs_real_server_state="absent") == 0


def test_the_proof_finds_who_else_answers(server: Server) -> None:
    """Two hosts that answer for the address, then none: both are no director."""
    for command, back in (
        (f"ip address del {server.vip}/32 dev eth0", f"ip address add {server.vip}/32 dev eth0"),
        (f"ip link add double link eth0 type macvlan; ip address add {server.vip}/32 dev double; ip link set double up",
         "ip link del double"),
    ):  # fmt: skip
        server.director.run(command)
        try:
            status, said = server.play()
        finally:
            server.director.run(back)
        assert status != 0 and "Prove that the director alone answers" in said.split("fatal:")[0].rsplit("TASK", 1)[1], said[
            -3000:
        ]
    assert server.play()[0] == 0
