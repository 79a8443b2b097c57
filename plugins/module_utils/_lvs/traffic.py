# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Traffic for a drill: new connections one after another, and connections that stay; what a fault does to both.

Times are unix times of the asking host: the phases of a drill are cut by its clock.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from typing import Any

#: The answer's first line names the server; longer ones are cut.
MAX_NAME = 64
MAX_SAMPLES = 20000


def status_of(error: BaseException) -> str:
    """refused, reset, timeout, unreachable or error."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError, http.client.RemoteDisconnected)):
        return "reset"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "timeout"
    if isinstance(error, OSError) and error.errno in (101, 113):
        return "unreachable"
    return "error"


def request(address: str, port: int, path: str, timeout: float) -> str:
    """Who answered one new connection: the first line of the body. Raises what went wrong."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "netops.fleet"})
        answer = connection.getresponse()
        body = answer.read(4096)
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        return body.decode("utf-8", "replace").split("\n", 1)[0].strip()[:MAX_NAME] or "nameless"
    finally:
        connection.close()


class _Stream(threading.Thread):
    """One connection that stays: a request a second on the same connection, until told to stop."""

    def __init__(self, address: str, port: int, path: str, timeout: float, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._where = (address, port, path, timeout)
        self._stop_event = stop
        self.opened, self.state, self.ended, self.requests = False, "not opened", 0.0, 0

    def run(self) -> None:
        address, port, path, timeout = self._where
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        try:
            while True:
                # The last request comes after the end, so that a connection that died quietly is not counted as alive.
                last = self._stop_event.is_set()
                self.state = "waiting" if self.opened else self.state
                connection.request("GET", path, headers={"Connection": "keep-alive", "User-Agent": "netops.fleet"})
                answer = connection.getresponse()
                answer.read(65536)
                if answer.will_close:
                    self.state = "closed by the server"
                    return
                self.opened, self.state = True, "alive"
                self.requests += 1
                # http.client connects anew by itself when the socket is gone; a stream must not.
                connection.auto_open = 0
                if last:
                    return
                self._stop_event.wait(0.5)
        except (OSError, http.client.HTTPException) as error:
            self.state = status_of(error) if self.opened else f"not opened: {status_of(error)}"
        finally:
            self.ended = time.time()
            connection.close()


def _tell(path: str) -> None:
    """Not created again where it was removed meanwhile."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        os.write(file, b"answered\n")
    finally:
        os.close(file)


def run(
    address: str,
    port: int,
    path: str,
    seconds: float,
    interval: float,
    timeout: float,
    streams: int,
    stream_path: str,
    stream_timeout: float = 30.0,
    while_exists: str | None = None,
) -> dict[str, Any]:
    """A held connection is lost when it fails, or gets no answer for ``stream_timeout``: TCP bridges a failover by itself.

    The file ``while_exists`` gets the line ``answered`` with the first answer, for who waits until the traffic is on.

    ``{started, ended, samples: [[unix time, seconds it took, who or null, status]], streams: [{state, ended, requests}]}``."""
    stop = threading.Event()
    held = [_Stream(address, port, stream_path, stream_timeout, stop) for _number in range(streams)]
    for one in held:
        one.start()
    started = time.time()
    samples: list[list[Any]] = []
    answered = False
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(samples) < MAX_SAMPLES and (not while_exists or os.path.exists(while_exists)):
        began, began_unix = time.monotonic(), time.time()
        who: str | None = None
        try:
            who, status = request(address, port, path, timeout), "ok"
            if while_exists and not answered:
                answered = True
                _tell(while_exists)
        except (OSError, http.client.HTTPException) as error:
            status = status_of(error)
        took = time.monotonic() - began
        samples.append([round(began_unix, 3), round(took, 3), who, status])
        left = interval - took
        if left > 0:
            time.sleep(left)
    stop.set()
    for one in held:
        one.join(stream_timeout + 2)
    return {
        "started": round(started, 3),
        "ended": round(time.time(), 3),
        "samples": samples,
        "streams": [{"state": one.state, "ended": round(one.ended, 3), "requests": one.requests} for one in held],
    }


def judge(traffic: dict[str, Any], began: float, ended: float, budget: dict[str, float]) -> dict[str, Any]:
    """A drill's report. began, ended: unix time of the fault and of its end. budget: gap_s, failed, streams_lost. Pure.

    gap_s: the longest time without an answer since the fault began, counted from the last request that was answered to the
    end of the next one that was. A service that never came back has the gap up to the end of the traffic.
    """
    samples = traffic["samples"]
    phases: dict[str, dict[str, int]] = {"before": {}, "during": {}, "after": {}}
    counts = {"refused": 0, "reset": 0, "timeout": 0, "unreachable": 0, "error": 0}
    good_until, gap = None, 0.0
    for when, took, who, status in samples:
        phase = "before" if when < began else "during" if when < ended else "after"
        if status == "ok":
            phases[phase][who] = phases[phase].get(who, 0) + 1
            if good_until is not None and when + took > began:
                gap = max(gap, when + took - good_until)
            good_until = when + took
        elif phase != "before":
            counts[status] = counts.get(status, 0) + 1
    if samples:
        last = samples[-1][0] + samples[-1][1]
        gap = max(gap, last - (good_until if good_until is not None else samples[0][0]))
    streams = traffic["streams"]
    lost = [one for one in streams if one["state"] not in ("alive", "closed by the server")]
    unopened = [one for one in streams if one["state"].startswith("not opened")]
    report: dict[str, Any] = {
        "gap_s": round(gap, 3),
        "failed": sum(counts.values()),
        **counts,
        "streams": {"opened": len(streams) - len(unopened), "alive": len(streams) - len(lost), "lost": len(lost) - len(unopened)},
        "distribution": phases,
        "fault_s": round(ended - began, 3),
        "requests": len(samples),
    }
    found = {"gap_s": report["gap_s"], "failed": report["failed"], "streams_lost": len(lost)}
    report["over_budget"] = [
        f"{name} {found[name]:g} > {budget[name]:g}" for name in found if name in budget and found[name] > budget[name]
    ]
    if not phases["before"]:
        report["over_budget"].append("nobody answered before the fault: nothing was measured")
    report["within_budget"] = not report["over_budget"]
    return report
