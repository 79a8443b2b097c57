# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual services: what writing them costs against ipvsadm, and what clients see of a failover and a drain.

1,000 real servers in 10 services, in a virtual machine with a distribution's kernel. Both sides are timed inside it: the
collection's code as a module runs it (read, plan, lint, write, read again), ipvsadm as one process; medians. Its processor is
emulated, so the seconds of failovers are upper bounds, and ratios are what counts for the rest.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.lab import lvs_drills
from tests.lab.guest import Guest
from tests.lab.lvs_net import PARAMS, Segment, service

_OURS = """
import time
from ansible_collections.netops.fleet.plugins.module_utils._lvs import codec, director, plan
services, params = args
result = {}
with codec.Ipvs() as ipvs:
    began = time.perf_counter()
    ipvs.read()
    result["dump"] = time.perf_counter() - began
began = time.perf_counter()
found, why = director.outcome({**params, "services": services}, False)
result["run"] = time.perf_counter() - began
assert not why, why
result["writes"] = found["writes"]
"""

_THEIRS = """
import subprocess, time
began = time.perf_counter()
subprocess.run(["ipvsadm", *args[0]], input=args[1].encode(), check=True, stdout=subprocess.DEVNULL)
result = time.perf_counter() - began
"""


def services() -> list[dict[str, Any]]:
    return [
        {
            "address": f"10.77.0.{number}",
            "port": 80,
            "servers": [{"address": f"10.78.{number}.{one}", "weight": one} for one in range(1, 101)],
        }
        for number in range(1, 11)
    ]


def run(options: Options) -> list[Figure]:
    with Guest() as guest:
        return [*writing(guest, options), *failing(guest, options)]


def writing(guest: Guest, options: Options) -> list[Figure]:
    found: dict[str, list[float]] = {"empty": [], "restore": [], "noop": [], "dump": [], "list": []}
    guest.load("ansible_collections.netops.fleet.plugins.module_utils._lvs.director")
    guest.sh("ip netns add b; ip -n b link set lo up; ip -n b route add 10.0.0.0/8 dev lo; modprobe -a ip_vs ip_vs_wrr")
    params = {**PARAMS, "state_folder": "/var/lib/netops.fleet/bench", "ignore_lint": ["not-on-link"]}
    for number in range(options.rounds):
        guest.sh("ipvsadm -C; rm -rf /var/lib/netops.fleet/bench", netns="b")
        filled = guest.call(_OURS, services(), params, netns="b")
        assert filled["writes"] == 1010
        again = guest.call(_OURS, services(), params, netns="b")
        assert again["writes"] == 0
        lines = guest.run(["ipvsadm", "-Sn"], "b").out
        found["empty"].append(filled["run"])
        found["noop"].append(again["run"])
        found["dump"].append(again["dump"])
        found["list"].append(guest.call(_THEIRS, ["-Ln"], "", netns="b"))
        guest.sh("ipvsadm -C", netns="b")
        found["restore"].append(guest.call(_THEIRS, ["--restore"], lines, netns="b"))
        options.say(f"round {number + 1} of {options.rounds}")
    middle = {name: median(times) for name, times in found.items()}
    return [
        Figure("1,000 real servers from empty", middle["empty"], "s", middle["restore"], "ipvsadm --restore", at_most=1.0),
        Figure("1,000 real servers, nothing to do", middle["noop"], "s", middle["dump"], "one dump by us", at_most=1.5),
        Figure("1,000 real servers, nothing to do, against a list", middle["noop"], "s", middle["list"], "ipvsadm -Ln"),
    ]


def failing(guest: Guest, options: Options) -> list[Figure]:
    """One round each: these are about what clients see, not about averages."""
    found = []
    with Segment(guest, directors=2, servers=3, vip=False) as lvs:
        for name, fault, more in (
            ("crash of the active director, connections synced, advertised every second", lvs_drills.crash, lvs_drills.SYNC),
            ("the same, advertised 5 times a second", lvs_drills.crash, {**lvs_drills.SYNC, "advertise": 0.2}),
            ("planned switch", lvs_drills.planned_switch, lvs_drills.SYNC),
        ):
            options.say(name)
            for director in lvs.directors:
                guest.sh("sysctl -qw net.ipv4.vs.sync_threshold='1 50'", netns=lvs.ns(director))
            lvs_drills.both(lvs, **more)
            report = fault(lvs)
            found.append(Figure(f"{name}: no answer for", report["gap_s"], detail=f"{report['failed']} requests failed"))
            found.append(
                Figure(f"{name}: streams lost of {report['streams']['opened']}", report["streams"]["lost"], "", at_most=0)
            )
            lvs.renew()
        options.say("backend death")
        lvs_drills.one_director(lvs, 20, 20, ramp=lvs_drills.ramp(lvs, 10))
        left, rising = lvs_drills.backend_death(lvs, 20)
        found.append(
            Figure("dead backend without weight after", left, detail=f"asked every second; back over {sorted(set(rising))}")
        )
        lvs.renew()
        options.say("drain")
        guest.sh("kill -9 $(cat /var/lib/netops.fleet/*/[pcr].pid) 2>/dev/null || true")
        found += draining(lvs)
    return found


def draining(lvs: Segment) -> list[Figure]:
    """Eight streams, five of them on the server that leaves; they are closed once it has weight 0."""
    guest, limits = lvs.guest, {"tcp_fin": 1}
    guest.sh("ip address add 10.66.0.80/32 dev eth0", netns=lvs.ns("dir1"))
    lvs.lvs([service(3, 5)], timeouts=limits)
    streams = lvs.streams(8)
    lvs.lvs([service(3)], timeouts=limits, drain_timeout=0)
    lost = sum(state != "alive" for states in streams.alive().values() for state in states)
    streams.close("rs2")
    began = lvs.clock()
    done = lvs.lvs([service(3)], timeouts=limits, drain_timeout=300, on_timeout="fail")
    assert not done["failed"], done["msg"]
    took = lvs.clock() - began
    lost += sum(state != "alive" for states in streams.alive().values() for state in states)
    return [
        Figure("drain: server removed after its last stream closed", took, detail="tcp_fin 1 s"),
        Figure("drain: streams lost of 8", lost + done["connections_dropped"], "", at_most=0),
    ]
