# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of links as the journal keeps them: written, read by other means, and brought back, on a veth in a namespace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Namespace

pytestmark = pytest.mark.kernel

_CHANGE = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
found = journal.Journal(sys.argv[1])
writes = []
for name, value in json.loads(sys.argv[2]).items():
    target = Object("nic", name)
    writes.append((target, objects.capture(target), {"value": value}))
change = found.begin("test", writes)
for target, _before, after in writes:
    objects.put(target, after)
found.done(change)
print(json.dumps({target.name: [before, objects.capture(target)] for target, before, _after in writes}))
"""
_BACK = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, rollback
steps = rollback.run(journal.Journal(sys.argv[1]), "test")
print(json.dumps({step.target.name: step.verdict for step in steps}))
"""
_CAPTURE = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._safety import objects
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
def said(name):
    try:
        return objects.capture(Object("nic", name))
    except objects.ObjectError as error:
        return str(error)
print(json.dumps([said(name) for name in sys.argv[1:]]))
"""


@pytest.fixture
def link(make_ns: Callable[[], Namespace]) -> Namespace:
    """A namespace with a veth of two queues, ``in``."""
    made = make_ns()
    queues = ["numrxqueues", "2", "numtxqueues", "2"]
    made.run(["ip", "link", "add", "in", *queues, "type", "veth", "peer", "name", "out", *queues])
    return made


def cat(space: Namespace, name: str) -> str:
    return space.run(["cat", f"/sys/class/net/in/{name}"]).stdout.strip()


def queue_names(space: Namespace) -> set[str]:
    return set(space.run(["ls", "/sys/class/net/in/queues"]).stdout.split())


def test_written_seen_and_brought_back(link: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o700)
    wanted = {
        "in txqueuelen": "77",
        "in rx-0.rps_cpus": "0-1",
        "in rx-0.rps_flow_cnt": "256",
        "in tx-1.xps_cpus": "1",
        "in channels.rx": "1",
        "in features.rx-gro": "on",
    }
    found: dict[str, Any] = link.python_json(_CHANGE, str(folder), json.dumps(wanted))
    assert {name: after["value"] for name, (_before, after) in found.items()} == wanted
    assert (cat(link, "tx_queue_len"), int(cat(link, "queues/rx-0/rps_cpus"), 16)) == ("77", 3)
    assert cat(link, "queues/rx-0/rps_flow_cnt") == "256" and int(cat(link, "queues/tx-1/xps_cpus"), 16) == 2
    assert queue_names(link) == {"rx-0", "tx-0", "tx-1"}
    verdicts = link.python_json(_BACK, str(folder))
    assert set(verdicts.values()) == {"restore"}
    assert (cat(link, "tx_queue_len"), int(cat(link, "queues/rx-0/rps_cpus"), 16)) == ("1000", 0)
    assert cat(link, "queues/rx-0/rps_flow_cnt") == "0" and int(cat(link, "queues/tx-1/xps_cpus"), 16) == 0
    assert queue_names(link) == {"rx-0", "rx-1", "tx-0", "tx-1"}


def test_what_is_gone_needs_no_way_back(link: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o700)
    link.python_json(_CHANGE, str(folder), json.dumps({"in rx-1.rps_cpus": "0", "in txqueuelen": "5"}))
    link.run(["ip", "link", "del", "in"])
    assert set(link.python_json(_BACK, str(folder)).values()) == {"already"}


def test_what_a_link_does_not_have(link: Namespace) -> None:
    said = link.python_json(_CAPTURE, "in coalesce.rx-usecs", "nolink txqueuelen", "nolink channels.rx", "in rx-9.rps_cpus", "in")
    assert said[:4] == [None, None, None, None]
    assert "is not LINK SETTING" in said[4]
