# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet that inventories/example describes: its weights, what each director is told, and the filter that reads hosts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleUndefinedVariable

from ansible_collections.netops.fleet.plugins.filter import lvs
from ansible_collections.netops.fleet.plugins.module_utils._lvs import track
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import wanted_table
from tests.tools import BIN, ROOT

#: Of netdevice(7): what VRRP asks of a link.
UP_BROADCAST_MULTICAST = 0x1 | 0x2 | 0x1000

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: >-
          {{ {'services': lvs_director_services | netops.fleet.lvs_services, 'why': model_servers,
              'text': {'router_id': inventory_hostname, 'folder': folder, 'vrrp': lvs_director_vrrp, 'sync': lvs_director_sync,
                       'services': lvs_director_services, 'timeouts': lvs_director_timeouts} | netops.fleet.lvs_keepalived,
              'drill': hostvars['client-01'].lvs_drill_address, 'vip': hostvars['gpu-02'].lvs_real_server_addresses} | to_json }}
        dest: "{{ folder }}/{{ inventory_hostname }}.json"
        mode: "0600"
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Director → what the example says to it. The link is one that this machine has, so that keepalived can check."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "play.yml").write_text(PLAY)
    links = {name: int(Path("/sys/class/net", name, "flags").read_text(), 16) for _index, name in socket.if_nameindex()}
    link = next(name for name, flags in links.items() if flags & UP_BROADCAST_MULTICAST == UP_BROADCAST_MULTICAST)
    argv = [
        str(BIN / "ansible-playbook"),
        "-i",
        str(ROOT / "inventories" / "example"),
        "-l",
        "directors",
        str(folder / "play.yml"),
    ]
    words = {
        "ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable,
        "segment_link": link, "folder": str(folder),
    }  # fmt: skip
    environ = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "HOME": str(folder),
    }
    done = subprocess.run(
        [*argv, "-e", json.dumps(words)], env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("director-*.json")}
    return {"folder": folder, **found}


def test_weights_of_the_example(told: dict[str, Any]) -> None:
    servers = told["director-01"]["services"][0]["servers"]
    assert {one["address"]: one["weight"] for one in servers} == {
        "192.0.2.11": 5, **{f"192.0.2.{number}": 2 for number in range(12, 17)}
    }  # fmt: skip
    assert set(servers[0]) == {"address", "weight"}
    assert told["director-02"]["services"] == told["director-01"]["services"], "all directors balance alike"
    assert told["director-01"]["drill"] == "192.0.2.80" and told["director-01"]["vip"] == ["192.0.2.80", "2001:db8::80"]


@pytest.mark.parametrize(("director", "priority"), [("director-01", 120), ("director-02", 100)])
def test_keepalived_takes_what_a_director_is_told(told: dict[str, Any], director: str, priority: int) -> None:
    tool = shutil.which("keepalived", path="/usr/sbin:/usr/bin")
    assert tool, "keepalived is not installed: make test installs it"
    folder: Path = told["folder"]
    said = told[director]
    track.write(str(folder), wanted_table(said["services"]))
    path = folder / f"{director}.conf"
    path.write_text(said["text"])
    assert f"priority {priority}" in said["text"] and said["text"].count("real_server ") == 6
    checked = subprocess.run([tool, "-t", "-f", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


class Variables(Mapping[str, Any]):
    """As hostvars of a host: a variable may be there and still not be known."""

    def __init__(self, **known: Any) -> None:
        self._known = known

    def __getitem__(self, name: str) -> Any:
        if self._known[name] is Variables:
            raise AnsibleUndefinedVariable("a fact that was not gathered")
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def test_a_missing_fact_holds_the_weight() -> None:
    hosts = {
        "a": Variables(ansible_host="192.0.2.1", lvs_member_capacity={"gpus": 8}),
        "b": Variables(ansible_host="192.0.2.2", lvs_member_capacity=Variables, lvs_member_state="up"),
        "c": Variables(lvs_member_address="192.0.2.3", lvs_member_capacity=4, lvs_member_health=0.5),
    }
    servers = lvs.lvs_members(list(hosts), hosts)
    assert [one["address"] for one in servers] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert servers[1]["capacity"] is None and servers[2]["health"] == 0.5
    made = lvs.lvs_weights(servers, previous={"a": 4, "b": 3, "c": 2})
    by_address = lvs.lvs_weights(servers, previous={"192.0.2.1": 4, "192.0.2.2": 3, "192.0.2.3": 2})
    assert by_address == made
    assert [(one["weight"], one["why"]) for one in made] == [(4, "by capacity"), (3, "no data: held"), (1, "health 0.5")]
