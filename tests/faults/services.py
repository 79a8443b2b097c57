# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small servers of the fault corpus: ``services.py SERVICE [argument ...]``. Each prints ``ready`` once it answers."""

from __future__ import annotations

import resource
import socket
import ssl
import struct
import sys
import threading
import time

#: What the name server knows. Everything else in this zone does not exist.
ZONE = "lab.test"


def ready() -> None:
    print("ready", flush=True)


def _listening(address: str, port: int, backlog: int = 1024) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(backlog)
    return server


def web(address: str, port: str, status: str = "200", body: str = "model ready", certificate: str = "", least: str = "") -> None:
    """Answers every request alike; with a certificate (PEM, with its key) over TLS, of no other version than ``least``."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if least:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = ssl.TLSVersion[least]
            context.set_ciphers("ALL:@SECLEVEL=0")
    server = _listening(address, int(port))
    ready()
    while True:
        client, _ = server.accept()
        threading.Thread(target=_serve, args=(client, context, status, body), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext | None, status: str, body: str) -> None:
    try:
        client.settimeout(5)
        if context is not None:
            client = context.wrap_socket(client, server_side=True)
        if client.recv(65536):
            text = f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
            client.sendall(text.encode())
    except OSError:
        pass
    finally:
        client.close()


def stuck(address: str, port: str, backlog: str) -> None:
    """Listens and never accepts."""
    server = _listening(address, int(port), int(backlog))
    ready()
    threading.Event().wait()
    server.close()


def leaking(address: str, port: str, files: str = "0") -> None:
    """Accepts and never closes; files: so many descriptors it may have."""
    if int(files):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), int(files)))
    server = _listening(address, int(port), 4096)
    ready()
    kept = []
    while True:
        try:
            kept.append(server.accept()[0])
        except OSError:
            time.sleep(0.05)  # no descriptor is left


def dns(address: str, code: str = "0", answer: str = "10.77.0.2") -> None:
    """Knows host.lab.test, api.lab.test and *.svc.cluster.local as ``answer``. code: what it says instead, such as 2."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((address, 53))
    ready()
    while True:
        data, where = server.recvfrom(4096)
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += data[at] + 1
        name = ".".join(labels).lower()
        (kind,) = struct.unpack_from("!H", data, at + 1)
        question = data[12 : at + 5]
        known = name in ("host.lab.test", "api.lab.test") or name.endswith(".svc.cluster.local")
        rcode = 0 if not name else int(code) or (0 if known else 3)
        records = b""
        if kind == 1 and known and not rcode:
            records = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(answer)
        header = data[:2] + struct.pack("!HHHHH", 0x8580 | rcode, 1, 1 if records else 0, 0, 0)
        server.sendto(header + question + records, where)


def ntp(address: str, offset: str = "0") -> None:
    """A stratum 2 server whose clock is ``offset`` seconds ahead, and runs on when somebody sets that of the machine."""
    begun = time.time() - time.monotonic()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 123))
    ready()
    while True:
        data, where = server.recvfrom(256)
        now = begun + time.monotonic() + float(offset) + 2208988800
        stamp = struct.pack("!II", int(now), int((now % 1) * 2**32))
        server.sendto(
            struct.pack("!BBBb11I", 0x24, 2, 6, -20, 0, 0, 0x7F000001, *[0] * 8)[:16] + stamp + data[40:48] + stamp + stamp, where
        )


def udp_unread(address: str, port: str) -> None:
    """A UDP socket with the smallest buffer that nobody reads."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
    server.bind((address, int(port)))
    ready()
    threading.Event().wait()


def many(*lines: str) -> None:
    """Several services in one process, each a line; says ``ready`` once all are."""
    global ready
    waiting = threading.Semaphore(0)
    ready = waiting.release
    for line in lines:
        name, *words = line.split()
        threading.Thread(target=SERVICES[name], args=words, daemon=True).start()
    for _ in lines:
        waiting.acquire()
    print("ready", flush=True)
    threading.Event().wait()


SERVICES = {one.__name__: one for one in (web, stuck, leaking, dns, ntp, udp_unread, many)}

if __name__ == "__main__":
    SERVICES[sys.argv[1]](*sys.argv[2:])
