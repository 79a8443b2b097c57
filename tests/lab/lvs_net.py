# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A load-balanced segment in a guest: a client, directors and real servers, each a network namespace, joined by a bridge.

The backends speak HTTP: /  answers with the server's name, /stream keeps the connection open and echoes lines,
/ready answers with the version that the file /tmp/lvs/<name>.version holds.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._lvs import keepalived
from tests.lab.guest import Guest

VIP, VIP6 = "10.66.0.80", "fd66::80"
PORT = 8080
_COUNTER = itertools.count(1)

BACKEND = r"""
import socket, socketserver
name, port = args
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        stream = self.request.makefile("rwb")
        line = stream.readline().decode()
        path = line.split(" ")[1] if line.count(" ") >= 2 else ""
        while stream.readline() not in (b"\r\n", b"\n", b""):
            pass
        if path == "/stream":
            stream.write(b"HTTP/1.1 200 OK\r\n\r\n" + name.encode() + b"\n"); stream.flush()
            for one in stream:
                stream.write(one); stream.flush()
            return
        body = name
        if path == "/keep":
            while path:
                stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode())); stream.flush()
                path = stream.readline()
                while path and stream.readline() not in (b"\r\n", b"\n", b""):
                    pass
            return
        if path == "/ready":
            try:
                body = open("/tmp/lvs/%s.version" % name).read()
            except OSError:
                body = "no version"
        stream.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
        stream.flush()
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
with Server(("::", port), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
"""

#: New connections one after another: [[name or error, seconds], ...]
REQUESTS = r"""
import socket, time
address, port, count, pause, timeout = args
result = []
for _ in range(count):
    began = time.monotonic()
    try:
        with socket.create_connection((address, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while True:
                more = connection.recv(4096)
                if not more:
                    break
                data += more
        said = data.rpartition(b"\r\n\r\n")[2].decode() or "empty"
    except OSError as error:
        said = type(error).__name__
    result.append([said, round(time.monotonic() - began, 3)])
    if pause:
        time.sleep(pause)
"""

#: A process that holds streams open and answers questions about them through files.
STREAMS = r"""
import json, os, socket, sys, time, traceback
address, port, count, folder = args
streams = []
def say(what):
    with open(folder + "/said.new", "w") as file:
        json.dump(what, file)
    os.rename(folder + "/said.new", folder + "/said")
def opened():
    one = socket.create_connection((address, port), 30)
    one.sendall(b"GET /stream HTTP/1.1\r\n\r\n")
    data = b""
    while data.count(b"\n") < 3:
        more = one.recv(4096)
        assert more, data
        data += more
    return data.splitlines()[-1].decode(), one
try:
    for _ in range(count):
        streams.append(opened())
except Exception:
    say({"error": traceback.format_exc()})
    raise
say([name for name, _one in streams])
print("ready", flush=True)
for line in iter(lambda: (time.sleep(0.05), os.path.exists(folder + "/ask"))[1], None):
    if not line:
        continue
    word = open(folder + "/ask").read().split()
    os.unlink(folder + "/ask")
    if word[0] == "close":
        kept = []
        for name, one in streams:
            if name == word[1] or word[1] == "all":
                one.close()
            else:
                kept.append((name, one))
        streams = kept
        say("closed")
        continue
    found = []
    for name, one in streams:
        try:
            one.settimeout(float(word[1]))
            one.sendall(b"hello\n")
            said = one.recv(100)
            found.append([name, "alive" if said == b"hello\n" else "closed"])
        except OSError as error:
            found.append([name, type(error).__name__])
    say(found)
"""


_UTILS = "ansible_collections.netops.fleet.plugins.module_utils"


def _batch(command: str, lines: list[str]) -> list[str]:
    return [f"{command} -batch - <<'END'", *lines, "END"]


class Segment:
    """Use as a context manager. Names in the guest are prefixed, so several segments can live side by side.

    directors, servers: how many. ``vip``: whether the virtual addresses are on the first director (else VRRP puts them).
    """

    def __init__(self, guest: Guest, directors: int = 1, servers: int = 2, vip: bool = True) -> None:
        self.guest = guest
        self.prefix = f"s{next(_COUNTER)}"
        self.directors = [f"dir{number}" for number in range(1, directors + 1)]
        self.servers = [f"rs{number}" for number in range(1, servers + 1)]
        self._vip = vip
        self._processes: list[int] = []
        self._backends: dict[str, int] = {}
        self._serving: set[int] = set()
        self._streams = 0

    def ns(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def address(self, host: str, family: int = 4) -> str:
        number = {"cl": 1}.get(host) or (10 if host.startswith("dir") else 100) + int(host[3:] if host[:3] == "dir" else host[2:])
        return f"10.66.0.{number}" if family == 4 else f"fd66::{number}"

    def _host(self, host: str) -> list[str]:
        """Commands that make a host's namespace and join it to the bridge: few, since each is a slow start of a process."""
        space, port = self.ns(host), f"{self.prefix}{host}"
        mac = f"02:00:00:00:00:{int(self.address(host).split('.')[3]):02x}"
        # A renewed host keeps its hardware address: nobody on the segment has to forget an old one.
        outside = [
            f"link add {port} type veth peer name eth0 address {mac} netns {space}",
            f"link set {port} master {self.prefix}br up",
        ]
        inside = [
            "link set lo up",
            f"address add {self.address(host)}/24 dev eth0",
            f"address add {self.address(host, 6)}/64 dev eth0 nodad",
            "link set eth0 up",
        ]
        settings = ""
        if host.startswith("dir"):
            settings = "net.ipv4.conf.all.send_redirects=0 net.ipv4.ip_forward=1"
        if host.startswith("rs"):
            settings = "net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
            inside += [f"address add {VIP}/32 dev lo", f"address add {VIP6}/128 dev lo nodad"]
        if self._vip and host == self.directors[0]:
            inside += [f"address add {VIP}/32 dev eth0", f"address add {VIP6}/128 dev eth0 nodad"]
        return [
            f"ip netns add {space}",
            *_batch("ip", outside),
            *([f"ip netns exec {space} sysctl -qw {settings}"] if settings else []),
            *_batch(f"ip -n {space}", inside),
        ]

    def __enter__(self) -> Segment:
        bridge = f"{self.prefix}br"
        lines = ["modprobe ip_vs", f"ip link add {bridge} type bridge", f"ip link set {bridge} up", "mkdir -p /tmp/lvs"]
        for host in ["cl", *self.directors, *self.servers]:
            lines += self._host(host)
        self.guest.sh("\n".join(lines))
        self.guest.load(*(f"{_UTILS}.{name}" for name in ("_lvs.director", "_lvs.segment", "_lvs.traffic", "_evidence.probes")))
        for server in self.servers:
            self.start_backend(server)
        return self

    def renew(self) -> None:
        """Directors without table, connections and settings of before; nothing runs but what serves."""
        for pid in [one for one in self._processes if one not in self._serving]:
            self.guest.end(pid, signal.SIGKILL)
        self._processes = sorted(self._serving)
        lines = [f"ip -n {self.ns('cl')} neigh flush dev eth0", "rm -f /tmp/lvs/*.version"]
        for host in self.directors:
            lines += [f"ip netns del {self.ns(host)}", f"ip link del {self.prefix}{host} 2>/dev/null || true", *self._host(host)]
        lines.append(f"rm -rf {' '.join(self.folder(host) for host in self.directors)}")
        self.guest.sh("\n".join(lines))

    def __exit__(self, *_unused: object) -> None:
        for pid in self._processes:
            self.guest.end(pid, signal.SIGKILL)
        spaces = [self.ns(host) for host in ["cl", *self.directors, *self.servers]]
        self.guest.sh(f"for one in {' '.join(spaces)}; do ip netns del $one || true; done; ip link del {self.prefix}br || true")

    # --- processes

    def start(self, argv: list[str], host: str, log: str = "") -> int:
        pid = self.guest.start(argv, self.ns(host), log or f"/tmp/lvs/{self.prefix}-{host}.log")
        self._processes.append(pid)
        return pid

    def spawn(self, code: str, *words: Any, host: str, log: str) -> int:
        pid = self.guest.spawn(code, *words, netns=self.ns(host), log=log)
        self._processes.append(pid)
        return pid

    def start_backend(self, server: str, port: int = PORT) -> None:
        self._backends[server] = self.serve(server, BACKEND, port)

    def serve(self, server: str, code: str, *words: Any) -> int:
        """Start Python code that gets the server's name and ``words``, and wait until it says that it is ready; its pid."""
        log = f"/tmp/lvs/{self.prefix}-{server}-{next(_COUNTER)}.log"
        pid = self.spawn(code, server, *words, host=server, log=log)
        self._serving.add(pid)
        self.guest.sh(f"timeout 120 sh -c 'until grep -q ready {log}; do sleep 0.1; done' || {{ cat {log} >&2; exit 1; }}")
        return pid

    def stop_backend(self, server: str) -> None:
        pid = self._backends.pop(server)
        self._serving.discard(pid)
        self.guest.end(pid, signal.SIGKILL)

    # --- traffic

    def requests(self, count: int, address: str = VIP, port: int = PORT, pause: float = 0.0, timeout: float = 20.0) -> list[str]:
        """Who answered each of ``count`` new connections, one after another; the error's name where nobody did."""
        found = self.guest.call(REQUESTS, address, port, count, pause, timeout, netns=self.ns("cl"), timeout=600)
        return [said for said, _seconds in found]

    def streams(self, count: int, address: str = VIP, port: int = PORT) -> Streams:
        self._streams += 1
        return Streams(self, count, address, port, f"/tmp/lvs/{self.prefix}-streams{self._streams}")

    # --- the witness

    def ipvsadm(self, *words: str, director: str = "dir1") -> str:
        return self.guest.run(["ipvsadm", *words], self.ns(director)).out

    def rules(self, director: str = "dir1") -> list[str]:
        """``ipvsadm -Sn``, sorted: what anybody would restore."""
        return sorted(self.ipvsadm("-Sn", director=director).splitlines())

    # --- the collection

    def lvs(self, services: list[dict[str, Any]], director: str = "dir1", check: bool = False, **params: Any) -> dict[str, Any]:
        """The module's result, with ``failed`` and ``msg`` as Ansible would show it."""
        code = """
import json
from ansible_collections.netops.fleet.plugins.module_utils._lvs import director, host
if "kernel" in args[0]:
    told = tuple(args[0].pop("kernel"))
    host.kernel_version = lambda: told
result, why = director.outcome(args[0], args[1])
result = {**result, "failed": bool(why), "msg": why}
"""
        found: dict[str, Any] = self.guest.call(code, self.params(services, director, **params), check, netns=self.ns(director))
        return found

    def params(self, services: list[dict[str, Any]], director: str = "dir1", **params: Any) -> dict[str, Any]:
        """The module's parameters."""
        return {**PARAMS, "services": services, "state_folder": self.folder(director), **params}

    # --- keepalived

    def configure(
        self, services: list[dict[str, Any]], director: str = "dir1", advertise: float = 1, **more: Any
    ) -> dict[str, Any]:
        """Write weights and configuration as the role does, and let keepalived check it; what the module said."""
        number, folder = int(director[3:]), self.folder(director)
        description = {
            "router_id": director,
            "folder": f"{folder}/weights",
            "services": services,
            "vrrp": [
                {
                    "name": "VI_1", "interface": "eth0", "id": 51, "priority": 120 - 10 * number, "advertise": advertise,
                    "addresses": [f"{VIP}/32", f"{VIP6}/128"],
                }
            ],
            "timeouts": {"tcp_fin": 2},
        }  # fmt: skip
        plain = [{name: value for name, value in one.items() if name not in ("check", "interval")} for one in services]
        result = self.lvs(plain, director, engine="keepalived", verify=False)
        assert not result["failed"], result["msg"]
        text = keepalived.configuration({**description, "leaving": result["leaving"], **more})
        self.guest.run(["tee", f"{folder}/keepalived.conf"], stdin=text)
        self.guest.run(["keepalived", "-t", "-f", f"{folder}/keepalived.conf"], self.ns(director))
        return result

    def start_keepalived(self, director: str = "dir1", keep: bool = True) -> int:
        folder = self.folder(director)
        argv = ["keepalived", "-n", "-l", "-D", "-f", f"{folder}/keepalived.conf"]
        argv += [f"-{letter}{folder}/{letter}.pid" for letter in "pcr"]
        return self.start([*argv, *(["-I"] if keep else [])], director, f"{folder}/keepalived.log")

    def reload(self, pid: int, director: str = "dir1") -> None:
        """Tell keepalived to read its configuration; returns once both of its parts began."""
        log = f"{self.folder(director)}/keepalived.log"
        count = f"grep -c Reloading {log} || true"
        before = int(self.guest.sh(count))
        self.guest.run(["kill", "-HUP", str(pid)])
        self.until(lambda: int(self.guest.sh(count)) > before)

    def weights(self, director: str = "dir1") -> dict[str, int]:
        """Server's number → weight in the kernel, as ipvsadm shows it."""
        found = {}
        for line in self.rules(director):
            words = line.split()
            if words[0] == "-a":
                found[words[words.index("-r") + 1].rpartition(":")[0].rpartition(".")[2]] = int(words[words.index("-w") + 1])
        return found

    def until(self, condition: Callable[[], Any], seconds: float = 180) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"the awaited condition did not come true\n{self.told()}"
            time.sleep(0.2)
        return value

    def told(self) -> str:
        """The tables and the last words of the directors, for who has to find out why."""
        said = ""
        for one in self.directors:
            log = self.guest.sh(f"tail -n 30 {self.folder(one)}/keepalived.log 2>&1 || true")
            said += f"--- {one}\n{self.ipvsadm('-Ln', director=one)}{log}"
        return said

    def holds(self, director: str) -> bool:
        return VIP in self.guest.run(["ip", "-4", "address", "show", "dev", "eth0"], self.ns(director)).out

    def traffic(self, streams: int, interval: float = 0.2) -> Callable[[], dict[str, Any]]:
        """Start what the module lvs_traffic does on the client. Call the result for what it saw, up to one more answer."""
        code = """
import os
from ansible_collections.netops.fleet.plugins.module_utils._lvs import traffic
*given, enough = args
ask = traffic.request
def request(*words):
    said = ask(*words)
    if os.path.exists(enough):
        traffic.MAX_SAMPLES = 0
    return said
traffic.request = request
result = traffic.run(*given)
"""
        found: dict[str, Any] = {}
        enough = f"/tmp/lvs/{self.prefix}-{next(_COUNTER)}-enough"

        def work() -> None:
            given = (VIP, PORT, "/", 400.0, interval, 2.0, streams, "/keep", 120.0, enough)
            found.update(self.guest.call(code, *given, netns=self.ns("cl"), timeout=600))

        thread = threading.Thread(target=work)
        thread.start()

        def wait() -> dict[str, Any]:
            self.guest.sh(f"touch {enough}")
            thread.join(600)
            return found

        return wait

    def clock(self) -> float:
        return float(self.guest.run(["date", "+%s.%N"]).out)

    def folder(self, director: str = "dir1") -> str:
        return f"/var/lib/netops.fleet/{self.prefix}-{director}"


#: The module's defaults.
PARAMS: dict[str, Any] = {
    "timeouts": None, "engine": "kernel", "drain_timeout": 300, "drain_until": "empty", "on_timeout": "keep", "force": False,
    "await_quiet": False, "keep_weights": False, "purge": False, "ignore_lint": [], "load_modules": True, "take_over": False,
    "settle": 60, "drain": [], "undrain": [], "drain_at_once": 1.0, "verify": True,
}  # fmt: skip


class Streams:
    """Connections that stay open. ``owners``: which server each of them got."""

    def __init__(self, segment: Segment, count: int, address: str, port: int, folder: str) -> None:
        self.segment, self.folder = segment, folder
        segment.guest.sh(f"rm -rf {folder}; mkdir -p {folder}")
        segment.spawn(STREAMS, address, port, count, folder, host="cl", log=f"{folder}/log")
        self.owners: list[str] = self._said()

    def _said(self) -> Any:
        script = f"timeout 100 sh -c 'until test -e {self.folder}/said; do sleep 0.05; done' || cat {self.folder}/log; "
        said = json.loads(self.segment.guest.sh(script + f"cat {self.folder}/said; rm {self.folder}/said"))
        assert "error" not in said, said
        return said

    def _ask(self, words: str) -> Any:
        self.segment.guest.sh(f"echo '{words}' > {self.folder}/ask.new; mv {self.folder}/ask.new {self.folder}/ask")
        return self._said()

    def alive(self, timeout: float = 20.0) -> dict[str, list[str]]:
        """Server → state of each of its streams after a line there and back: alive, closed, or the error's name."""
        found: dict[str, list[str]] = {}
        for name, state in self._ask(f"ping {timeout}"):
            found.setdefault(name, []).append(state)
        return found

    def close(self, server: str = "all") -> None:
        self._ask(f"close {server}")


def service(*weights: int, port: int = PORT, family: int = 4, **more: Any) -> dict[str, Any]:
    """A wanted service with one server for each weight: rs1, rs2, ..."""
    base = "10.66.0." if family == 4 else "fd66::"
    servers = [{"address": f"{base}{100 + number}", "weight": weight} for number, weight in enumerate(weights, 1)]
    return {"address": VIP if family == 4 else VIP6, "port": port, "servers": servers, "scheduler": "wrr", **more}
