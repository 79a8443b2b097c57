# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus' witness: ``ask.py QUESTION [argument ...]`` ends with status 0 when the traffic in question works.

It uses nothing of the collection. Some questions only make traffic for a while (flood, connections).
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import threading
import time

PATIENCE = 0.7


def connect(address: str, port: str) -> bool:
    try:
        socket.create_connection((address, int(port)), PATIENCE).close()
    except OSError:
        return False
    return True


def serves(address: str, port: str) -> bool:
    """A whole exchange: a connection that is only queued gives no answer."""
    try:
        with socket.create_connection((address, int(port)), PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def http(url: str, body: str = "") -> bool:
    """With the system's trust store and the time of this machine."""
    import urllib.request  # takes longer to load than the other questions take to be asked

    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200 and body in answer.read().decode()
    except OSError:
        return False


def ping(address: str, size: str = "56", count: str = "1") -> bool:
    """Echo requests over IPv4 with the DF bit; are all answered?"""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: always set DF, send nothing in fragments
    sock.settimeout(PATIENCE)
    token = os.urandom(int(size))
    for number in range(int(count)):
        header = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number)
        try:
            sock.sendto(header[:2] + struct.pack("!H", _checksum(header + token)) + header[4:] + token, (address, 0))
            while True:
                data = sock.recv(65536)
                if data[20] == 0 and data[28:] == token and data[26:28] == struct.pack("!H", number):
                    break
        except OSError:
            return False
    return True


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def name(text: str, address: str = "") -> bool:
    """As programs of this host resolve it."""
    try:
        found = {item[4][0] for item in socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return not address or address in found


def burst(address: str, port: str, count: str) -> bool:
    """Do so many connections one after the other all open at once?"""
    return all(connect(address, port) for _ in range(int(count)))


def quick(address: str, port: str, milliseconds: str) -> bool:
    """Does a connection open within so many milliseconds?"""
    begun = time.monotonic()
    return connect(address, port) and time.monotonic() - begun < float(milliseconds) / 1000


def clock(server: str) -> bool:
    """Is this machine's clock within five seconds of the time server's?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((server, 123))
        sock.send(b"\x23" + bytes(47))
        seconds, _fraction = struct.unpack("!II", sock.recv(48)[40:48])
        return bool(abs(seconds - 2208988800 - time.time()) < 5)


def carrier(link: str) -> bool:
    with open(f"/sys/class/net/{link}/carrier", encoding="ascii") as file:
        return file.read().strip() == "1"


def flood(address: str, port: str, seconds: str, size: str = "100", pause: str = "0", source: str = "") -> bool:
    """UDP datagrams for a while, from an address of this host."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if source:
        sock.bind((source, 0))
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        try:
            sock.sendto(b"x" * int(size), (address, int(port)))
        except OSError:
            pass
        time.sleep(float(pause))
    return True


def connections(address: str, port: str, count: str, seconds: str) -> bool:
    """Opens so many connections, does not wait for them, and holds them for a while."""
    kept = []
    for _ in range(int(count)):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex((address, int(port)))
        kept.append(sock)
    print("ready", flush=True)
    time.sleep(float(seconds))
    return True


def syns(address: str, port: str, seconds: str) -> bool:
    """Opens handshakes from ports that do not answer: raw SYN packets, as a flood is made of."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    sock.connect((address, 0))
    own, there = (socket.inet_aton(one) for one in (sock.getsockname()[0], address))
    until = time.monotonic() + float(seconds)
    number = 0
    while time.monotonic() < until:
        number += 1
        # From addresses beyond, where nobody resets what was not asked for.
        own = socket.inet_aton(f"10.88.1.{number % 250 + 1}")
        head = struct.pack("!HHIIBBHHH", 1024 + number % 60000, int(port), number, 0, 5 << 4, 2, 65535, 0, 0)
        checked = _checksum(own + there + struct.pack("!BBH", 0, 6, len(head)) + head)
        packet = head[:16] + struct.pack("!H", checked) + head[18:]
        _send_as(sock, own, there, packet)
        time.sleep(0.01)
    return True


def _send_as(sock: socket.socket, source: bytes, there: bytes, payload: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, 6, 0, source, there)
    sock.send(head + payload)


def growing(path: str, seconds: str, template: str) -> bool:
    """Writes a file of counters again and again, with ``@`` as a number that grows."""
    until = time.monotonic() + float(seconds)
    number = 100
    while time.monotonic() < until:
        number += 1
        with open(path, "w", encoding="ascii") as file:
            file.write(template.replace("@", str(number)).replace("\\n", "\n") + "\n")
        time.sleep(0.02)
    return True


def requests(address: str, port: str, seconds: str) -> bool:
    """Request after request, forty at a time."""
    until = time.monotonic() + float(seconds)

    def work() -> None:
        while time.monotonic() < until:
            serves(address, port)

    workers = [threading.Thread(target=work) for _ in range(40)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    return True


def attach(how: str, link: str, port: str, direction: str = "ingress") -> bool:
    """Holds a BPF program that stops TCP over IPv4 to the port, until this process ends.

    how: tcx, tc or xdp, at the link; connect, where processes of this one's cgroup call connect(2).
    """
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from tests.kernel import bpf_tools as tools

    insn = tools.insn
    if how == "xdp":
        code = (
            insn(0x61, 2, 1, 0) + insn(0x61, 3, 1, 4)  # r2, r3 = the packet's begin and end
            + insn(0xBF, 4, 2) + insn(0x07, 4, imm=38) + insn(0x2D, 4, 3, 8)  # too short: pass
            + insn(0x69, 5, 2, 12) + insn(0x55, 5, 0, 6, socket.htons(0x0800))
            + insn(0x71, 5, 2, 23) + insn(0x55, 5, 0, 4, 6)
            + insn(0x69, 5, 2, 36) + insn(0x55, 5, 0, 2, socket.htons(int(port)))
            + tools.constant(1) + tools.constant(2)
        )  # fmt: skip
        step = {"how": "xdp_link", "type": "xdp", "mode": "generic"}
    elif how == "connect":
        code = (
            insn(0x61, 2, 1, 24) + insn(0x55, 2, 0, 2, socket.htons(int(port)))  # r2 = the port that is asked for
            + tools.constant(0) + tools.constant(1)
        )  # fmt: skip
        with open("/proc/self/cgroup", encoding="ascii") as lines:
            own = next(line.strip()[3:] for line in lines if line.startswith("0::"))
        where = {"path": f"/sys/fs/cgroup{own}", "attach": "cgroup_inet4_connect"}
        step = {"how": "cgroup_link", "type": "cgroup_sock_addr", **where}
    else:
        code = (
            insn(0xBF, 6, 1)
            + insn(0x28, imm=12) + insn(0x55, 0, 0, 6, 0x0800)
            + insn(0x30, imm=23) + insn(0x55, 0, 0, 4, 6)
            + insn(0x28, imm=36) + insn(0x55, 0, 0, 2, int(port))
            + tools.constant(2) + tools.constant(-1)
        )  # fmt: skip
        step = {"how": how, "type": "sched_cls", "direction": direction, "priority": 1}
    tools.hold([{**step, "code": code.hex(), "name": "guard_port", "dev": "" if how == "connect" else link}])
    print("ready", flush=True)
    signal.pause()
    return True


_ALL = (
    connect, serves, http, ping, name, burst, quick, clock, carrier, flood, connections, syns, requests, growing, attach,
)  # fmt: skip
QUESTIONS = {one.__name__: one for one in _ALL}

if __name__ == "__main__":
    sys.exit(0 if QUESTIONS[sys.argv[1]](*sys.argv[2:]) else 1)
