# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to directors that a real keepalived runs, for tests and for figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._lvs import traffic
from tests.lab.guest import ROOT
from tests.lab.lvs_net import Segment, service

CHECK = {"type": "http", "path": "/", "timeout": 3, "retries": 1}
SYNC: dict[str, Any] = {"sync": {"interface": "eth0", "instance": "VI_1", "id": 1}}
STREAMS = 20


def checked(*weights: int, **more: Any) -> dict[str, Any]:
    """A service whose servers are asked every second."""
    return service(*weights, check=CHECK, interval=1, **more)


def one_director(lvs: Segment, *weights: int, keep: bool = True, **more: Any) -> int:
    """Run the first director; returns keepalived's pid once it serves with all weights."""
    lvs.configure([checked(*weights)], **more)
    pid = lvs.start_keepalived(keep=keep)
    lvs.until(lambda: lvs.holds("dir1") and lvs.weights() == {str(100 + n): one for n, one in enumerate(weights, 1)})
    return pid


def both(lvs: Segment, entry: dict[str, Any] | None = None, **more: Any) -> None:
    """Run two directors, the first of them active."""
    for director in lvs.directors:
        lvs.configure([entry or checked(3, 5, 2)], director, **more)
        lvs.start_keepalived(director)
    full = {"101": 3, "102": 5, "103": 2}
    lvs.until(lambda: lvs.holds("dir1") and all(lvs.weights(one) == full for one in lvs.directors))


def established(lvs: Segment, count: int) -> None:
    """Wait until the active director has the held connections, and with a sync the other one too."""

    def active(director: str) -> int:
        lines = [line.split() for line in lvs.ipvsadm("-Ln", director=director).splitlines()]
        return sum(int(words[4]) for words in lines if words[:1] == ["->"] and words[4:5] and words[4].isdigit())

    lvs.until(lambda: active("dir1") >= count)
    if "backup" in lvs.ipvsadm("-Ln", "--daemon", director="dir2"):
        lvs.until(lambda: active("dir2") >= count)


def _switched(lvs: Segment, fault: Callable[[], Any]) -> dict[str, Any]:
    """Traffic before, during and after ``fault``, which makes the second director take over."""
    seen = lvs.traffic(STREAMS)
    established(lvs, STREAMS)
    began = lvs.clock()
    fault()
    lvs.until(lambda: lvs.holds("dir2"))
    ended = lvs.clock()
    return traffic.judge(seen(), began, ended, {"gap_s": 60})


def crash(lvs: Segment) -> dict[str, Any]:
    """The active director is gone from one moment to the next."""
    script = f"kill -9 $(cat {lvs.folder()}/[pcr].pid); ip link set eth0 down"
    return _switched(lvs, lambda: lvs.guest.sh(script, netns=lvs.ns("dir1")))


def planned_switch(lvs: Segment) -> dict[str, Any]:
    """keepalived of the active director is stopped."""
    return _switched(lvs, lambda: lvs.guest.sh(f"kill -TERM $(cat {lvs.folder()}/p.pid)"))


def ramp(lvs: Segment, seconds: int) -> str:
    """The command of the slow start."""
    return f"/usr/bin/python3 {ROOT}/roles/lvs_director/files/lvs-ramp {lvs.folder()}/weights {seconds}"


def backend_death(lvs: Segment, full: int) -> tuple[float, list[int]]:
    """(seconds until the second server has weight 0 after it died, its weights from its return to ``full``)."""
    began = lvs.clock()
    lvs.stop_backend("rs2")
    lvs.until(lambda: lvs.weights()["102"] == 0)
    left = lvs.clock() - began
    lvs.start_backend("rs2")
    seen: list[int] = []

    def back() -> bool:
        seen.append(lvs.weights()["102"])
        return seen[-1] == full

    lvs.until(back, 180)
    return round(left, 2), [one for one in seen if one]
