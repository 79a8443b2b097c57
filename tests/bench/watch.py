# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What watching costs the traffic: a stream between two namespaces, and short connections, watched and not, in turn. (W01, D13)

While nothing is watched there is no program and no event switched on: that is counted, not timed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.measure import MeasureError
from tests.bench.options import Options
from tests.kernel.conftest import Namespace

#: Bytes of the stream, and connections one after the other.
STREAM, CONNECTIONS = 4 << 30, 12_000

_SINK = """
import socket, threading
def drain(connection):
    room = memoryview(bytearray(1 << 20))
    while connection.recv_into(room):
        pass
    connection.close()
server = socket.create_server(("10.77.0.2", 1678), backlog=1024)
print("ready", flush=True)
while True:
    connection, _address = server.accept()
    if connection.recv(1) == b"s":
        threading.Thread(target=drain, args=(connection,), daemon=True).start()
    else:
        connection.close()
"""
_SEND = """
import socket, sys, time
data = bytes(1 << 20)
sock = socket.create_connection(("10.77.0.2", 1678))
sock.sendall(b"s")
begun, used = time.perf_counter(), time.process_time()
for _piece in range(int(sys.argv[1]) >> 20):
    sock.sendall(data)
sock.shutdown(socket.SHUT_WR)
sock.recv(1)
print(time.perf_counter() - begun, time.process_time() - used)
"""
_CONNECT = """
import socket, sys, time
begun, used = time.perf_counter(), time.process_time()
for _turn in range(int(sys.argv[1])):
    with socket.create_connection(("10.77.0.2", 1678)) as sock:
        sock.sendall(b"c")
        sock.recv(1)
print(time.perf_counter() - begun, time.process_time() - used)
"""
_WATCH = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import connections, drop_reasons, drop_watch, tracing
kind = sys.argv[1]
work = {"drops": drop_watch._by_bpftrace, "connections": connections._by_bpftrace}
work["connections by tracefs"] = connections._by_tracefs
running = drop_reasons.DropReasons().begin() if kind not in work else tracing.begin("bench", work[kind], 240)
if running.gaps:
    raise SystemExit(str(running.gaps))
print("ready", flush=True)
input()
print(json.dumps(tracing.end(running)))
"""
_WATCHED = ("drops", "drops by tracefs", "connections", "connections by tracefs")
#: Not watched, and once more: what the machine itself makes of the same work.
_FREE, _CONTROL = "nothing", "nothing again"


def run(options: Options) -> list[Figure]:
    sender, receiver = Namespace(), Namespace()
    try:
        sender.run(["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", receiver.name])
        for namespace, link, number in ((sender, "va", 1), (receiver, "vb", 2)):
            namespace.run(["ip", "addr", "add", f"10.77.0.{number}/24", "dev", link])
            namespace.run(["ip", "link", "set", link, "up"])
        sink = receiver.start_python(_SINK).pid
        before = _loaded()
        found: dict[str, dict[str, list[float]]] = {}
        for number in range(max(3, options.rounds)):
            kinds = [_FREE, *_WATCHED, _CONTROL]
            for kind in kinds if number % 2 == 0 else kinds[::-1]:
                for name, seconds in _round(sender, sink, kind).items():
                    found.setdefault(name, {}).setdefault(kind, []).append(seconds)
            options.say(f"round {number + 1}: {_shown(found)}")
        left = max(0, _loaded() - before)
    finally:
        sender.remove()
        receiver.remove()
    figures = [Figure("programs and events left when nothing is watched", left, "", at_most=0)]
    for name, times in found.items():
        free = statistics.median(times[_FREE])
        figures.append(Figure(f"{name}, not watched, once more", statistics.median(times[_CONTROL]), "s", free, "not watched"))
        for kind in _WATCHED:
            watched = statistics.median(times[kind])
            figures.append(Figure(f"{name}, {kind} watched", watched, "s", free, "not watched", at_most=1.05))
    return figures


def _round(sender: Namespace, sink: int, kind: str) -> dict[str, float]:
    """Wall seconds of the stream and of the connections, and CPU seconds that both ends took for them."""
    watcher: subprocess.Popen[str] | None = None
    if kind not in (_FREE, _CONTROL):
        watcher = sender.start_python(_WATCH, kind)
    try:
        stream = _timed(sender, sink, _SEND, STREAM)
        connections = _timed(sender, sink, _CONNECT, CONNECTIONS)
    finally:
        if watcher is not None:
            output, _none = watcher.communicate("go\n", timeout=120)
            if '"error"' in output:
                raise MeasureError(f"{kind}: the watch failed: {output[-300:]}")
    names = (f"{STREAM >> 20} MiB through a veth", f"{CONNECTIONS} short connections")
    return {
        f"{name}, {unit}": one[at] for name, one in zip(names, (stream, connections)) for at, unit in enumerate(("time", "CPU"))
    }


def _timed(sender: Namespace, sink: int, code: str, count: int) -> tuple[float, float]:
    before = _cpu(sink)
    wall, own = sender.run([sys.executable, "-c", code, str(count)], timeout=300).stdout.split()
    return float(wall), float(own) + _cpu(sink) - before


def _cpu(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _shown(found: dict[str, dict[str, list[float]]]) -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{kind} {statistics.median(some):.2f} s" for kind, some in times.items())
        for name, times in found.items()
    )


def _loaded() -> int:
    """Programs that tracing holds: instances of the tracer, and file descriptors of BPF links."""
    instances = Path("/sys/kernel/tracing/instances")
    own = len(list(instances.iterdir())) if instances.is_dir() else 0
    links = 0
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            links += "bpf_link" in str(path.readlink()) or "perf_event" in str(path.readlink())
        except OSError:
            continue
    return own + links
