# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop reasons: packets the test has dropped are counted by reason; whatever ends the reader, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

# The tracer counts the drops of the whole machine in a buffer of fixed size, and whoever opens a window next removes what a dead
# one left: a test beside these would fill the buffer, or tidy up before they look.
pytestmark = [pytest.mark.kernel, pytest.mark.alone]

ROOM = "from ansible_collections.netops.fleet.plugins.module_utils._evidence import drop_reasons\n"
SHOW = "import json\nprint(json.dumps({'data': s.data, 'gaps': [g.to_dict() for g in s.gaps]}))\n"
BEGIN = ROOM + "r = drop_reasons.DropReasons(); running = r.begin()\n"
# Both name the child: an instance that outlives its maker is told by that.
READY = "print(running.gaps, flush=True); print('child', running.child, flush=True); print('ready', flush=True); input()\n"
LIST = (
    "import os\nfrom ansible_collections.netops.fleet.plugins.module_utils._kernel import tracefs\n"
    "root = tracefs.mounted() or tracefs.mount_privately()\n"
    "import json\nprint(json.dumps(sorted(n for n in os.listdir(root + '/instances') if n.startswith(tracefs.PREFIX))))\n"
)


def instances(ns: Any) -> list[str]:
    """The tracer's instances of ours, seen through a mount of the looker's own."""
    found: list[str] = ns.python_json(LIST)
    return found


def start(ns: Any) -> tuple[subprocess.Popen[str], int]:
    """A reader in mid-window, and the pid of its child."""
    process = ns.start_python(BEGIN + READY, ready=None)
    words = []
    for line in process.stdout:
        words.append(line.strip())
        if line.strip() == "ready":
            break
    assert words[0] == "[]", words
    return process, int(words[1].split()[1])


def mounts() -> list[str]:
    """The machine's mounts, but for network namespaces: tests beside this one make some."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return [line for line in file if line.split()[2] != "nsfs"]


def test_dropped_packets_are_counted_by_reason(pair: Any) -> None:
    left, right = pair
    left.run(
        ["nft", "add table t; add chain t i { type filter hook input priority 0; }; add rule t i udp dport 4000 counter drop"]
    )
    before = mounts()
    reader = left.start_python(
        BEGIN + "assert not running.gaps, running.gaps\nprint('ready'); input()\ns = r.end(running)\n" + SHOW
    )
    assert mounts() == before
    # Two sizes of loss that nothing else on the machine is likely to show, told apart by reason.
    right.python("import socket\nk = socket.socket(2, 2)\nfor _ in range(211): k.sendto(b'x', ('10.77.0.1', 4000))")
    right.python("import socket\nfor _ in range(97): socket.socket(10, 2).sendto(b'x', ('fd77::1', 4001))")
    output, _none = reader.communicate("go\n", timeout=60)
    section = json.loads(output.splitlines()[-1])
    found = {(one["reason"], one["protocol"]): one for one in section["data"]["reasons"]}
    counted = left.json(["nft", "-j", "list", "chain", "ip", "t", "i"])["nftables"][-1]["rule"]["expr"][1]["counter"]["packets"]
    assert counted == 211
    assert found["NETFILTER_DROP", "ipv4"]["count"] >= counted
    assert found["NETFILTER_DROP", "ipv4"]["location"]
    assert found["NO_SOCKET", "ipv6"]["count"] >= 97
    assert section["data"]["total"] >= 308
    assert (section["data"]["scope"], [gap["what"] for gap in section["gaps"]][:1]) == ("machine", ["drop_reasons.scope"])
    assert mounts() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_reader_that_is_ended_leaves_nothing(ns: Any, wait_until: Callable[..., Any], number: int) -> None:
    before = mounts()
    process, child = start(ns)
    assert f"netops_fleet_{child}" in instances(ns)
    os.kill(process.pid, number)
    wait_until(lambda: f"netops_fleet_{child}" not in instances(ns))
    wait_until(lambda: not os.path.exists(f"/proc/{child}"))
    assert mounts() == before


def test_what_a_killed_child_left_is_removed_by_the_next(ns: Any, wait_until: Callable[..., Any]) -> None:
    process, child = start(ns)
    os.kill(child, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{child}"))
    assert f"netops_fleet_{child}" in instances(ns)
    other, _child = start(ns)
    assert f"netops_fleet_{child}" not in instances(ns)
    other.communicate("end\n", timeout=30)
    wait_until(lambda: instances(ns) == [] or f"netops_fleet_{_child}" not in instances(ns))


def test_instances_of_others_are_left_alone(ns: Any) -> None:
    make = LIST + "os.mkdir(root + '/instances/somebody_1'); os.mkdir(root + '/instances/netops_fleet_x')\n"
    names = "('somebody_1', 'netops_fleet_x')"
    try:
        ns.python(make)
        reader = ns.start_python(BEGIN + "print('ready'); input(); r.end(running)\n")
        reader.communicate("go\n", timeout=30)
        there = ns.python_json(LIST + f"print(json.dumps([n in os.listdir(root + '/instances') for n in {names}]))\n")
        assert there == [True, True]
    finally:
        ns.python(LIST + f"[os.rmdir(root + '/instances/' + n) for n in {names}]\n")


def test_a_tracer_that_is_mounted_already_is_used_and_losses_of_events_are_counted(pair: Any) -> None:
    """More drops than the buffer holds: what was overwritten is counted, so that nothing sent is unaccounted for."""
    left, right = pair
    code = (
        "from ansible_collections.netops.fleet.plugins.module_utils._kernel import tracefs\n"
        "folder = tracefs.mount_privately(); assert tracefs.mounted() == folder\n"
        + ROOM
        + "drop_reasons.BUFFER_KIB = 64\n"
        + "r = drop_reasons.DropReasons(); running = r.begin(); assert not running.gaps, running.gaps\n"
        + "import os; print(len(os.listdir(folder + '/instances')) > 0); print('ready'); input()\ns = r.end(running)\n"
    )
    reader = left.start_python(code + SHOW)
    right.python("import socket\nfor _ in range(20000): socket.socket(2, 2).sendto(b'x', ('10.77.0.1', 4001))")
    output, _none = reader.communicate("go\n", timeout=60)
    section = json.loads(output.splitlines()[-1])
    assert section["data"]["lost"] > 0
    assert section["data"]["total"] + section["data"]["lost"] >= 20000
    assert "drop_reasons.lost" in [gap["what"] for gap in section["gaps"]]


def test_without_the_right_to_mount_it_says_so(ns: Any) -> None:
    code = BEGIN + "s = r.end(running)\n" + SHOW
    done = ns.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", code], env=ns.environment()
    )
    section = json.loads(done.stdout.splitlines()[-1])
    assert section["data"] is None
    assert [gap["what"] for gap in section["gaps"]] == ["drop_reasons"]
    assert "not permitted" in section["gaps"][0]["why"]
