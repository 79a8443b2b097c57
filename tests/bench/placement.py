# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a place of its own brings a service: round trips of small requests beside programs that take all processor time. (T08)

A server and its client over loopback; one busy program for each processor. "Anywhere": all may run on all processors. "Placed":
server and client keep to the first, the busy programs to the others, as ``cpus`` of service_placement gives it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from tests.bench.figures import Figure
from tests.bench.measure import MeasureError
from tests.bench.options import Options

REQUESTS = 3000

_BUSY = "while True: pass"
_SERVER = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
peer, _address = listening.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := peer.recv(64):
    peer.sendall(data)
"""
_CLIENT = """
import json, socket, sys, time
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
taken = []
for _request in range(int(sys.argv[2])):
    begun = time.perf_counter()
    peer.sendall(b"x" * 64)
    peer.recv(64)
    taken.append(time.perf_counter() - begun)
print(json.dumps(taken))
"""


def run(options: Options) -> list[Figure]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise MeasureError("one processor: there is no place to choose")
    kinds = {"anywhere": (set(cpus), set(cpus)), "placed": ({cpus[0]}, set(cpus[1:]))}
    found: dict[str, list[list[float]]] = {name: [] for name in kinds}
    for number in range(options.rounds):
        for name in sorted(kinds, reverse=bool(number % 2)):
            found[name].append(sorted(_round_trips(*kinds[name], len(cpus))))
    return [
        Figure(
            f"round trip of a placed service, {label}",
            _median(found["placed"], share),
            "ms",
            _median(found["anywhere"], share),
            "anywhere",
            detail=f"{len(cpus)} busy programs on {len(cpus)} processors, {REQUESTS} requests a round",
        )
        for label, share in (("median", 0.5), ("99th percentile", 0.99))
    ]


def _median(rounds: list[list[float]], share: float) -> float:
    return 1000 * statistics.median(one[int(len(one) * share)] for one in rounds)


def _round_trips(service: set[int], others: set[int], busy: int) -> list[float]:
    """Seconds of each request. Everything started is gone afterwards."""
    with ExitStack() as stack:
        for _one in range(busy):
            _start(stack, _BUSY, others)
        server = _start(stack, _SERVER, service)
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        client = _start(stack, _CLIENT, service, port, str(REQUESTS))
        output, _nothing = client.communicate(timeout=300)
        if client.returncode:
            raise MeasureError(f"the client ended with status {client.returncode}")
        taken: list[float] = json.loads(output)
        return taken


def _start(stack: ExitStack, code: str, cpus: set[int], *arguments: str) -> subprocess.Popen[str]:
    """A program on these processors: it sets them itself before anything else."""
    words = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cpus!r})\n{code}", *arguments]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process
