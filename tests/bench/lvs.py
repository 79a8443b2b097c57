# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cost of virtual services against ipvsadm, in the same run on the same kernel: python -m tests.bench.lvs

1,000 real servers in 10 services. Both sides are timed inside the guest, without starting Python or ipvsadm's own process twice:
the collection's code as a module runs it (read, plan, lint, write, read again), ipvsadm as one process. Medians of five.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".collections"))

from tests.lab.guest import Guest
from tests.lab.lvs_net import PARAMS

ROUNDS = 5

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


def measure() -> dict[str, Any]:
    """Seconds of each, and ratios."""
    found: dict[str, list[float]] = {"empty": [], "restore": [], "noop": [], "dump": [], "list": []}
    with Guest() as guest:
        guest.sh("ip netns add b; ip -n b link set lo up; ip -n b route add 10.0.0.0/8 dev lo; modprobe -a ip_vs ip_vs_wrr")
        params = {**PARAMS, "state_folder": "/var/lib/netops.fleet/bench", "ignore_lint": ["not-on-link"]}
        lines = ""
        for _round in range(ROUNDS):
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
    middle = {name: round(median(times), 4) for name, times in found.items()}
    return {
        **middle,
        "empty_to_restore": round(middle["empty"] / middle["restore"], 2),
        "noop_to_dump": round(middle["noop"] / middle["dump"], 2),
        "noop_to_list": round(middle["noop"] / middle["list"], 2),
    }


if __name__ == "__main__":
    print(json.dumps({"lvs": measure()}))
