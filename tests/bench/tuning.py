# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tuning: what a profile of 40 keys costs, and what it does to short connections, bursts and the number that can be held.

Cost: plays on the controller's own machine, inside a namespace whose /etc/sysctl.d is private: what each of eight more hosts adds
to a run, and what the first one takes longer than a play without a task. The reference for many tasks is ansible.posix.sysctl
where it is installed (ANSIBLE_COLLECTIONS_PATH), else sysctl(8) in as many tasks. Effect: a server and a client in two
namespaces, with the kernel's defaults and with the profile.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import ansible_runs, measure
from tests.bench.figures import Figure
from tests.bench.options import ROOT, Options
from tests.kernel.conftest import Namespace
from tests.kernel.tuning import PRELUDE

#: Forty keys that a network namespace owns; the values differ from the defaults.
KEYS = {
    "net.core.somaxconn": "65535",
    "net.ipv4.icmp_echo_ignore_broadcasts": "0",
    "net.ipv4.icmp_ignore_bogus_error_responses": "0",
    "net.ipv4.icmp_ratelimit": "500",
    "net.ipv4.ip_default_ttl": "63",
    "net.ipv4.ip_local_port_range": "10240 65535",
    "net.ipv4.ip_no_pmtu_disc": "1",
    "net.ipv4.ip_nonlocal_bind": "1",
    "net.ipv4.tcp_abort_on_overflow": "1",
    "net.ipv4.tcp_autocorking": "0",
    "net.ipv4.tcp_base_mss": "1000",
    "net.ipv4.tcp_early_retrans": "0",
    "net.ipv4.tcp_ecn": "1",
    "net.ipv4.tcp_fastopen": "3",
    "net.ipv4.tcp_fin_timeout": "30",
    "net.ipv4.tcp_frto": "0",
    "net.ipv4.tcp_keepalive_intvl": "10",
    "net.ipv4.tcp_keepalive_probes": "6",
    "net.ipv4.tcp_keepalive_time": "60",
    "net.ipv4.tcp_max_reordering": "200",
    "net.ipv4.tcp_max_syn_backlog": "16384",
    "net.ipv4.tcp_max_tw_buckets": "131073",
    "net.ipv4.tcp_min_tso_segs": "3",
    "net.ipv4.tcp_moderate_rcvbuf": "0",
    "net.ipv4.tcp_mtu_probing": "1",
    "net.ipv4.tcp_no_metrics_save": "1",
    "net.ipv4.tcp_notsent_lowat": "131072",
    "net.ipv4.tcp_orphan_retries": "1",
    "net.ipv4.tcp_reordering": "5",
    "net.ipv4.tcp_retries1": "4",
    "net.ipv4.tcp_retries2": "12",
    "net.ipv4.tcp_rfc1337": "1",
    "net.ipv4.tcp_rmem": "4096 131072 16777216",
    "net.ipv4.tcp_sack": "0",
    "net.ipv4.tcp_slow_start_after_idle": "0",
    "net.ipv4.tcp_syn_retries": "4",
    "net.ipv4.tcp_synack_retries": "3",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.tcp_wmem": "4096 65536 16777216",
    "net.ipv4.tcp_workaround_signed_windows": "1",
}
#: Of a run, one after the other.
HOSTS = 9
#: Seconds of short connections: longer than the default's 28,232 ports last.
SECONDS = 20
BURST = 10_000
HELD = 10_500

_PRIVATE = """
mount -t tmpfs -o mode=755 none /etc/sysctl.d
mount -t tmpfs -o mode=755 none /var/lib
mkdir -p /etc/udev/rules.d && mount -t tmpfs -o mode=755 none /etc/udev/rules.d
"""


def run(options: Options) -> list[Figure]:
    return [*cost(options), *effect(options)]


# --- cost


def cost(options: Options) -> list[Figure]:
    """What one host costs in a run of many, and the first one with what the controller packs once per run.

    Hosts take turns with two sets of values in one namespace, so that each finds forty to change.
    """
    assert len(KEYS) == 40
    folder = ansible_runs.scratch("tuning")
    posix = _posix()
    many = "ansible.posix.sysctl" if posix else "ansible.builtin.command: sysctl -w"
    options.say(f"the reference of 40 tasks is {many}")
    tasks = _tasks(posix)
    run = partial(_play, folder, posix, tasks)
    cheap = {
        "nothing": partial(run, "nothing", 1),
        "ping 1": partial(run, "ping", 1),
        f"ping {HOSTS}": partial(run, "ping", HOSTS),
        "apply 1": partial(run, "ours", 1),
        f"apply {HOSTS}": partial(run, "ours", HOSTS),
        f"again {HOSTS}": partial(run, "ours", HOSTS, same=True),
    }
    found = measure.alternate(cheap, options.rounds, options.say)
    found |= measure.alternate(
        {f"many {hosts}": partial(run, "many", hosts) for hosts in (1, 2)}, min(2, options.rounds), options.say
    )
    shutil.rmtree(folder)
    wall = {name: one.wall for name, one in found.items()}
    further = HOSTS - 1
    ping = (wall[f"ping {HOSTS}"] - wall["ping 1"]) / further
    apply = (wall[f"apply {HOSTS}"] - wall["apply 1"]) / further
    again = (wall[f"again {HOSTS}"] - wall["apply 1"]) / further
    first, bare, theirs = (wall[name] - wall["nothing"] for name in ("apply 1", "ping 1", "many 1"))
    return [
        Figure("40 keys applied, a host", apply, "s", ping, "one ping", at_most=1.5),
        Figure("40 keys, nothing to do, a host", again, "s", ping, "one ping", at_most=1.5),
        Figure("40 keys applied, first host of a run", first, "s", bare, "one ping, first host", at_most=1.5),
        Figure("40 keys applied, against 40 tasks, a host", apply, "s", wall["many 2"] - wall["many 1"], many, at_most=1 / 20),
        Figure("40 keys applied, against 40 tasks, first host", first, "s", theirs, many, at_most=1 / 20),
    ]


def _posix() -> str | None:
    """The collections path that holds ansible.posix, if any."""
    wanted = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "")
    for place in wanted.split(os.pathsep):
        if place and (Path(place) / "ansible_collections" / "ansible" / "posix" / "plugins" / "modules" / "sysctl.py").exists():
            return place
    return None


def _other(value: str) -> str:
    """Another value that the same key takes; of milliseconds the kernel keeps whole ticks only."""
    *first, last = value.split()
    number = int(last)
    return " ".join([*first, str(1 - number if number < 2 else number - (100 if number >= 500 else 1))])


def _tasks(posix: str | None) -> dict[str, list[dict[str, Any]]]:
    theirs: list[dict[str, Any]] = []
    for name in KEYS:
        value = f"{{{{ keys['{name}'] }}}}"
        if posix:
            file = "/etc/sysctl.d/99-bench.conf"
            arguments = {"name": name, "value": value, "sysctl_set": True, "sysctl_file": file, "reload": False}
            theirs.append({"name": name, "ansible.posix.sysctl": arguments})
        else:
            theirs.append({"name": name, "ansible.builtin.command": {"argv": ["sysctl", "-w", f"{name}={value}"]}})
    return {
        "nothing": [],
        "ping": [{"name": "Ping", "ansible.builtin.ping": {}}],
        "ours": [{"name": "Tune", "netops.fleet.sysctl_tuning": {"settings": "{{ keys }}"}}],
        "many": theirs,
    }


def _play(
    folder: Path, posix: str | None, tasks: Mapping[str, Sequence[Any]], name: str, hosts: int, same: bool = False
) -> measure.Measured:
    """One playbook over so many hosts, one after the other, in a fresh namespace with private folders. same: all get one set."""
    head = {"name": name, "hosts": "all", "connection": "local", "gather_facts": False}
    playbook, inventory = folder / "play.yml", folder / "hosts.json"
    # An extra meta task: a play without tasks is not begun at all.
    playbook.write_text(json.dumps([{**head, "tasks": [{"ansible.builtin.meta": "noop"}, *tasks[name]]}]))
    listed: dict[str, Any] = {}
    for number in range(hosts):
        keys = {key: value if same or number % 2 == 0 else _other(value) for key, value in KEYS.items()}
        listed[f"host{number + 1}"] = {"keys": keys, "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"hosts": listed}}))
    path = f"{ROOT / '.collections'}" + (f"{os.pathsep}{posix}" if posix else "")
    environment = ansible_runs.environment(1, {"ANSIBLE_COLLECTIONS_PATH": path})
    binary = Path(sys.executable).parent / "ansible-playbook"
    space = Namespace()
    try:
        script = f"{_PRIVATE}\nexec {binary} -i {inventory} {playbook}"
        return measure.run(space.argv(["sh", "-ec", script]), cwd=ROOT, env=environment)
    finally:
        space.remove()


# --- effect

_SERVER = """
import resource, selectors, socket, sys, time
port, backlog, patience = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
listener = socket.create_server(("10.77.0.2", port), backlog=backlog)
listener.setblocking(False)
waiting = selectors.DefaultSelector()
waiting.register(listener, selectors.EVENT_READ)
print("ready", flush=True)
time.sleep(patience)
while True:
    for key, _ in waiting.select():
        if key.fileobj is listener:
            try:
                while True:
                    connection = listener.accept()[0]
                    connection.setblocking(False)
                    waiting.register(connection, selectors.EVENT_READ)
            except BlockingIOError:
                pass
            continue
        try:
            data = key.fileobj.recv(4096)
            if data:
                key.fileobj.send(data)
                continue
        except OSError:
            pass
        waiting.unregister(key.fileobj)
        key.fileobj.close()
"""

#: Short connections: open, one byte there and back, close; 64 at a time. The client closes first, so TIME_WAIT is its own.
_SHORT = """
import errno, json, selectors, socket, sys, time
port, seconds = int(sys.argv[1]), float(sys.argv[2])
waiting = selectors.DefaultSelector()
took, failed, pause, busy = [], 0, 0.0, 0
end = time.monotonic() + seconds
def begin():
    global failed, pause, busy
    connection = socket.socket()
    connection.setblocking(False)
    now = time.monotonic()
    code = connection.connect_ex(("10.77.0.2", port))
    if code not in (0, errno.EINPROGRESS):
        failed += 1
        connection.close()
        pause = now + 0.002
        return
    busy += 1
    waiting.register(connection, selectors.EVENT_WRITE, now)
while (now := time.monotonic()) < end:
    while busy < 64 and now >= pause:
        begin()
        now = time.monotonic()
    for key, events in waiting.select(0.002):
        try:
            if events & selectors.EVENT_WRITE:
                key.fileobj.send(b"x")
                waiting.modify(key.fileobj, selectors.EVENT_READ, key.data)
                continue
            key.fileobj.recv(16)
            took.append(time.monotonic() - key.data)
        except OSError:
            failed += 1
        waiting.unregister(key.fileobj)
        key.fileobj.close()
        busy -= 1
took.sort()
median, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
print(json.dumps({"rate": len(took) / seconds, "failed": failed, "median": median, "p99": p99}))
"""

#: Many at once: all are opened before any is read; then they are held, and each is asked once more.
_MANY = """
import errno, json, resource, selectors, socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
waiting = selectors.DefaultSelector()
begun, took = {}, []
for number in range(count):
    connection = socket.socket()
    connection.setblocking(False)
    begun[connection] = time.monotonic()
    connection.connect_ex(("10.77.0.2", port))
    waiting.register(connection, selectors.EVENT_WRITE)
left, deadline = count, time.monotonic() + 60
while left and time.monotonic() < deadline:
    for key, _ in waiting.select(1):
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            took.append(time.monotonic() - begun[key.fileobj])
        waiting.unregister(key.fileobj)
        left -= 1
print("held", flush=True)
sys.stdin.readline()
answered = 0
for connection in begun:
    connection.setblocking(True)
    connection.settimeout(20)
    try:
        connection.sendall(b"y")
        answered += connection.recv(1) == b"y"
    except OSError:
        pass
took.sort()
p99 = took[len(took) * 99 // 100]
print(json.dumps({"connected": len(took), "answered": answered, "p99": p99, "slowest": took[-1]}), flush=True)
sys.stdin.readline()
"""


@contextmanager
def pair(tuned: bool) -> Iterator[tuple[Namespace, Namespace]]:
    """Client and server, joined by a veth; tuned by the module's own code."""
    with ExitStack() as stack:
        client, server = Namespace(), Namespace()
        stack.callback(server.remove)
        stack.callback(client.remove)
        client.run(["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", server.name])
        for space, link, number in ((client, "va", 1), (server, "vb", 2)):
            space.run(["ip", "addr", "add", f"10.77.0.{number}/24", "dev", link])
            space.run(["ip", "link", "set", link, "up"])
            if tuned:
                space.python(PRELUDE + "tune.run(options(profile='inference', persist=False), check=False)")
        yield client, server


def effect(options: Options) -> list[Figure]:
    figures = []
    short: dict[bool, dict[str, float]] = {}
    burst: dict[bool, dict[str, float]] = {}
    for tuned in (False, True):
        with pair(tuned) as (client, server):
            server.start_python(_SERVER, "8001", "65535", "0")
            short[tuned] = client.python_json(_SHORT, "8001", str(SECONDS), timeout=SECONDS + 60)
        options.say(f"short connections, {'tuned' if tuned else 'defaults'}: {short[tuned]}")
        with pair(tuned) as (client, server):
            server.start_python(_SERVER, "8002", "65535", "2")
            burst[tuned] = many(client, BURST)
            burst[tuned]["overflows"] = _counter(server, "TcpExtListenOverflows")
        options.say(f"{BURST} connections at once, accepted after 2 s, {'tuned' if tuned else 'defaults'}: {burst[tuned]}")
    with pair(True) as (client, server):
        server.start_python(_SERVER, "8003", "65535", "0")
        held = many(client, HELD, "8003", server)
    options.say(f"held: {held}")
    before, after = short[False], short[True]
    figures.append(Figure("short connections per second", after["rate"], "", before["rate"], "defaults"))
    for name in ("median", "p99"):
        figures.append(Figure(f"short connections, {name}", after[name] * 1000, "ms", before[name] * 1000, "defaults"))
    text = f"accept queue overflows: {burst[False]['overflows']:.0f} with defaults, {burst[True]['overflows']:.0f} tuned"
    name = f"{BURST} connections at once: slowest handshake"
    figures.append(Figure(name, burst[True]["slowest"], "s", burst[False]["slowest"], "defaults", detail=text))
    # The fewer are missing the better: at most none of the ten thousand.
    missing = max(0, 10_000 - int(min(held["seen"], held["answered"])))
    text = f"{held['seen']:.0f} established (ss), {held['answered']:.0f} answered while held"
    figures.append(Figure("missing of 10000 connections held", missing, "", at_most=0, detail=text))
    return figures


def many(client: Namespace, count: int, port: str = "8002", server: Namespace | None = None) -> dict[str, float]:
    process = client.start_python(_MANY, port, str(count), ready="held")
    assert process.stdin is not None and process.stdout is not None
    seen = 0
    if server is not None:
        listed = server.run(["ss", "-Htn", "state", "established", "sport", "=", f":{port}"])
        seen = len(listed.stdout.splitlines())
    process.stdin.write("go\n")
    process.stdin.flush()
    found: dict[str, float] = json.loads(process.stdout.readline())
    return {**found, "seen": seen}


def _counter(space: Namespace, name: str) -> float:
    shown = space.run(["nstat", "-asz", name]).stdout
    return sum(float(line.split()[1]) for line in shown.splitlines() if line.startswith(name))
