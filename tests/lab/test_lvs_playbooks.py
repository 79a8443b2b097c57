# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks lvs, drain and drill, carried out by Ansible on hosts with a distribution's kernel."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.guest import ROOT, Guest
from tests.lab.lvs_net import PORT, VIP, VIP6, Segment, service
from tests.tools import BIN

pytestmark = [pytest.mark.lab, pytest.mark.machine, pytest.mark.drill]


@pytest.fixture(scope="module")
def lvs(guest: Guest) -> Iterator[Segment]:
    with Segment(guest, servers=2) as made:
        for server in made.servers:  # the role is what makes them real servers here
            guest.sh(
                f"ip address del {VIP}/32 dev lo; ip address del {VIP6}/128 dev lo; "
                "sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0",
                netns=made.ns(server),
            )
        yield made


def inventory(lvs: Segment) -> dict[str, Any]:
    def host(name: str, **more: Any) -> dict[str, Any]:
        return {name: {"guest_netns": lvs.ns(name), **more}}

    entry = {
        "address": VIP,
        "port": PORT,
        "scheduler": "wrr",
        "servers": [{"address": lvs.address("rs1"), "weight": 3}, {"address": lvs.address("rs2"), "weight": 5}],
    }
    real = {
        "lvs_real_server_addresses": [VIP, VIP6],
        "lvs_real_server_links": ["eth0"],
        "lvs_real_server_persistent": False,
    }
    return {
        "all": {
            "vars": {
                "ansible_connection": "guest",
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_remote_tmp": "/tmp/ansible",
                "ansible_async_dir": "/tmp/ansible_async",
            },
            "children": {
                "gpu-nodes": {
                    "hosts": {
                        name: {
                            **host(name)[name],
                            **real,
                            "lvs_real_server_state_folder": f"/var/lib/netops.fleet/{lvs.ns(name)}",
                        }
                        for name in lvs.servers
                    }
                },
                "directors": {
                    "hosts": host("dir1"),
                    "vars": {
                        "lvs_director_engine": "kernel",
                        "lvs_director_services": [entry],
                        "lvs_director_timeouts": {"tcp_fin": 2},
                        "lvs_director_state_folder": lvs.folder("dir1"),
                    },
                },
                "clients": {"hosts": host("cl")},
            },
        }
    }


def by_keepalived(lvs: Segment, *weights: int) -> dict[str, Any]:
    """Variables of a director that keepalived runs; the machine has no systemd, so the test says how it starts and reloads."""
    folder = f"/run/{lvs.ns('dir1')}"
    pids = " ".join(f"-{letter} {folder}/{letter}.pid" for letter in "pcr")
    entry = service(*weights, check={"type": "http", "timeout": 5, "retries": 1}, interval=1)
    return {
        "lvs_director_engine": "keepalived",
        "lvs_director_manage_service": False,
        "lvs_director_config": f"{folder}/keepalived.conf",
        "lvs_director_libexec": f"{folder}/ramp",
        "lvs_director_reload": [
            "sh", "-c", f"kill -HUP $(cat {folder}/p.pid) || keepalived -D -I -f {folder}/keepalived.conf {pids}",
        ],
        "lvs_director_vrrp": [{"name": "VI_1", "interface": "eth0", "id": 51, "addresses": [f"{VIP}/32", f"{VIP6}/128"]}],
        "lvs_director_services": [entry],
        "lvs_director_slow_start": 0,
    }  # fmt: skip


def play(lvs: Segment, tmp_path: Path, name: str, *words: str, **variables: Any) -> str:
    """Output of a playbook that must succeed."""
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory(lvs)))
    environ = {
        **os.environ,
        "GUEST_PORT": str(lvs.guest.port),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests" / "lab" / "connection"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "HOME": str(tmp_path),
    }
    argv = [str(BIN / "ansible-playbook"), "-i", str(tmp_path / "inventory.yml"), str(ROOT / "playbooks" / f"{name}.yml")]
    argv += [*words, "-e", json.dumps(variables)]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_from_nothing_to_a_proven_split_and_back_out(lvs: Segment, tmp_path: Path) -> None:
    """lvs twice, then drain out and in, each seen from the client and by ipvsadm."""
    first = play(lvs, tmp_path, "lvs")
    assert re.search(r"dir1 +: .*changed=[1-9]", first) and re.search(r"rs1 +: .*changed=1 ", first), first[-2000:]
    assert Counter(lvs.requests(80)) == {"rs1": 30, "rs2": 50}
    second = play(lvs, tmp_path, "lvs")
    assert len(re.findall(r"changed=0 ", second)) == 3, second[-2000:]
    checked = play(lvs, tmp_path, "lvs", "--check", "--diff")
    assert len(re.findall(r"changed=0 ", checked)) == 3, checked[-2000:]
    play(lvs, tmp_path, "drain", drain_address=lvs.address("rs2"), lvs_director_engine="kernel", drain_at_once=0.7)
    assert lvs.weights() == {"101": 3, "102": 0}
    play(lvs, tmp_path, "lvs")
    assert lvs.weights() == {"101": 3, "102": 0}, "it stays out"
    play(lvs, tmp_path, "drain", drain_address=lvs.address("rs2"), drain_state="in", lvs_director_engine="kernel")
    assert lvs.weights() == {"101": 3, "102": 5}


def test_keepalived_by_the_role_and_a_server_that_leaves(lvs: Segment, tmp_path: Path) -> None:
    """From nothing; again without a change; a server that is no longer wanted goes when its last client has gone."""
    lvs.renew()
    folder = f"/run/{lvs.ns('dir1')}"
    lvs.guest.sh(f"mkdir -p {folder}")
    only = ("-l", "dir1")
    try:
        play(lvs, tmp_path, "lvs", *only, **by_keepalived(lvs, 3, 5))
        lvs.until(lambda: lvs.holds("dir1") and lvs.weights() == {"101": 3, "102": 5})
        assert Counter(lvs.requests(16)) == {"rs1": 6, "rs2": 10}
        second = play(lvs, tmp_path, "lvs", *only, **by_keepalived(lvs, 3, 5))
        assert re.search(r"dir1 +: .*changed=0 ", second), second[-2000:]
        streams = lvs.streams(8)
        less = by_keepalived(lvs, 3)
        kept = play(lvs, tmp_path, "lvs", *only, **less, lvs_director_drain_timeout=0)
        assert lvs.weights() == {"101": 3, "102": 0}, kept[-2000:]
        assert {state for states in streams.alive().values() for state in states} == {"alive"}
        streams.close("rs2")
        play(lvs, tmp_path, "lvs", *only, **less, lvs_director_drain_timeout=300)
        lvs.until(lambda: lvs.weights() == {"101": 3})
        assert streams.alive() == {"rs1": ["alive"] * 3}
        assert "10.66.0.102" not in lvs.guest.sh(f"cat {folder}/keepalived.conf")
    finally:
        lvs.guest.sh(f"kill -9 $(cat {folder}/[pcr].pid) || true; rm -rf {folder}")
        lvs.renew()


def test_drill_measures_and_reverts(lvs: Segment, tmp_path: Path) -> None:
    """A director that drops everything for a while: the gap is at least as long, the fault is gone afterwards."""
    play(lvs, tmp_path, "lvs")
    fault = {
        "cut": {
            "inject": "ip link set eth0 down; echo hit > /tmp/lvs/drill",
            "revert": "ip link set eth0 up; echo back > /tmp/lvs/drill",
        }
    }
    said = play(
        lvs, tmp_path, "drill", drill_client="cl", lvs_drill_scenario="cut", lvs_drill_faults=fault, lvs_drill_target="dir1",
        lvs_drill_address=VIP, lvs_drill_stream_path="/keep", lvs_drill_streams=3, lvs_drill_hold=6, lvs_drill_after=4,
        lvs_drill_before=4, lvs_drill_interval=0.3, lvs_drill_budget={"gap_s": 60},
    )  # fmt: skip
    report = json.loads(said[said.index('{\n    "lvs_drill_report"') :].split("\n}\n", 1)[0] + "\n}")["lvs_drill_report"]
    print("FIGURE " + json.dumps({"drill": report}))
    assert report["gap_s"] >= 5 and report["failed"] >= 1 and report["within_budget"]
    assert report["distribution"]["before"] and report["distribution"]["after"]
    assert lvs.guest.run(["cat", "/tmp/lvs/drill"]).out == "back\n"
    assert set(lvs.requests(8)) == {"rs1", "rs2"}
