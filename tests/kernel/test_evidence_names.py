# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and the clock against servers the test runs, each of which misbehaves in its own way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

ROOM = "from ansible_collections.netops.fleet.plugins.module_utils._evidence import {0}\n"
SHOW = "import json\nprint(json.dumps({'data': s.data, 'gaps': [g.to_dict() for g in s.gaps]}))\n"

# One server per address, its behaviour by address. Written without the reader's own code: it must not share its mistakes.
SERVER = r"""
import select, socket, struct, threading
def name_end(d):
    o = 12
    while d[o]: o += d[o] + 1
    return o + 5
def reply(d, rcode=0, answers=(), flags=0x8180):
    q = d[12:name_end(d)]
    out = d[:2] + struct.pack('!HHHHH', flags | rcode, 1, len(answers), 0, 0) + q
    for kind, data in answers:
        out += b'\xc0\x0c' + struct.pack('!HHIH', kind, 1, 60, len(data)) + data
    return out
def asked(d):
    end = name_end(d)
    return d[12:end - 4], struct.unpack('!H', d[end - 4:end - 2])[0]
A4, A6 = socket.inet_aton('192.0.2.10'), socket.inet_pton(socket.AF_INET6, '2001:db8::10')
def good(d, tcp=False):
    name, kind = asked(d)
    if name == b'\x05model\x04test\x00':
        return reply(d, answers=[(1, A4)] if kind == 1 else [(28, A6)])
    if name == b'\x03big\x04test\x00':
        if not tcp: return reply(d, flags=0x8380)
        return reply(d, answers=[(1, socket.inet_aton('198.51.100.%d' % n)) for n in range(1, 41)] if kind == 1 else [])
    if name == b'\x00': return reply(d)
    return reply(d, 3)
def bad_id(d): return bytes([d[0] ^ 1]) + good(d)[1:]
def other_name(d):
    return reply(d[:12] + b'\x04evil\x04test\x00' + d[-4:], answers=[(1, A4)])
def garbage(d): return b'\x00' * 5
def loop(d):
    return d[:2] + struct.pack('!HHHHH', 0x8180, 1, 1, 0, 0) + d[12:name_end(d)] + b'\xc0' + bytes([name_end(d)])
WAYS = {'10.77.0.1': good, 'fd77::1': good, '10.77.0.11': lambda d: reply(d, 2), '10.77.0.12': lambda d: reply(d, 5),
        '10.77.0.13': bad_id, '10.77.0.14': other_name, '10.77.0.15': loop, '10.77.0.16': None}
def tcp(where):
    s = socket.create_server((where, 53))
    while True:
        c, _ = s.accept()
        d = c.recv(1000)[2:]
        a = good(d, True)
        c.sendall(struct.pack('!H', len(a)) + a[:20]); c.sendall(a[20:]); c.close()
threading.Thread(target=tcp, args=('10.77.0.1',), daemon=True).start()
socks = {}
for where, way in WAYS.items():
    s = socket.socket(socket.AF_INET6 if ':' in where else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((where, 53)); socks[s] = way
print('ready')
while True:
    for s in select.select(list(socks), [], [])[0]:
        d, peer = s.recvfrom(2000)
        if socks[s]: s.sendto(socks[s](d), peer)
"""


@pytest.fixture
def servers(pair: Any) -> Any:
    left, right = pair
    for number in range(11, 18):
        left.run(["ip", "addr", "add", f"10.77.0.{number}/24", "dev", "va"])
    left.start_python(SERVER)
    return right


def lookups(ns: Any, folder: Path, resolv_conf: str, names: list[str], seconds: float = 1.5) -> Any:
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "etc" / "resolv.conf").write_text(resolv_conf)
    (folder / "etc" / "nsswitch.conf").write_text("# x\nhosts: files [NOTFOUND=return] dns\n")
    code = ROOM.format("names") + f"s = names.read({names!r}, {seconds}, root={str(folder)!r})\n" + SHOW
    return ns.python_json(code)


def test_each_way_to_fail_is_told_apart(servers: Any, tmp_path: Path) -> None:
    addresses = [f"10.77.0.{number}" for number in (1, 11, 12, 13, 14, 15, 16)]
    text = "".join(f"nameserver {address}\n" for address in addresses)
    section = lookups(servers, tmp_path, text, ["model.test", "nothing.test"])
    by = {(one["server"], one["name"], one["type"]): one for one in section["data"]["lookups"]}
    status = {address: by[address, "model.test", "A"]["status"] for address in addresses}
    assert status == dict(zip(addresses, ("ok", "servfail", "refused", "wrong", "wrong", "wrong", "timeout")))
    assert by["10.77.0.1", "model.test", "A"]["answers"] == ["192.0.2.10"]
    assert by["10.77.0.1", "model.test", "AAAA"]["answers"] == ["2001:db8::10"]
    assert by["10.77.0.1", "model.test", "A"]["ms"] > 0
    assert by["10.77.0.1", "nothing.test", "A"]["status"] == "nxdomain"
    assert by["10.77.0.1", ".", "NS"]["status"] == "ok"
    assert by["10.77.0.16", ".", "NS"]["status"] == "timeout"
    assert "id" in by["10.77.0.13", "model.test", "A"]["detail"]
    assert "another question" in by["10.77.0.14", "model.test", "A"]["detail"]
    assert section["data"]["nsswitch"] == ["files", "[NOTFOUND=return]", "dns"]


def test_a_server_that_is_not_there(servers: Any, tmp_path: Path) -> None:
    """Nothing on port 53 answers with a refusal of ICMP; no route answers at once."""
    section = lookups(servers, tmp_path, "nameserver 10.77.0.17\nnameserver 203.0.113.9\n", [])
    found = {one["server"]: one for one in section["data"]["lookups"]}
    assert found["10.77.0.17"]["status"] == "unreachable" and "refused" in found["10.77.0.17"]["detail"]
    assert found["203.0.113.9"]["status"] == "unreachable" and "unreachable" in found["203.0.113.9"]["detail"]


def test_a_long_answer_comes_by_tcp_and_ipv6_servers_are_asked(servers: Any, tmp_path: Path) -> None:
    section = lookups(servers, tmp_path, "nameserver fd77::1\nnameserver 10.77.0.1\n", ["big.test", "model.test"])
    by = {(one["server"], one["name"], one["type"]): one for one in section["data"]["lookups"]}
    assert len(by["10.77.0.1", "big.test", "A"]["answers"]) == 40
    assert by["fd77::1", "model.test", "AAAA"]["answers"] == ["2001:db8::10"]
    # The IPv6 server does not listen on TCP: that is no answer, and must not read as an empty one.
    assert by["fd77::1", "big.test", "A"]["status"] == "unreachable"


def test_short_names_are_asked_as_libc_asks_them(servers: Any, tmp_path: Path) -> None:
    text = "nameserver 10.77.0.1\nsearch cluster.local test\noptions ndots:5 timeout:2 rotate\n"
    section = lookups(servers, tmp_path, text, ["model"])
    found = [(one["name"], one["status"]) for one in section["data"]["lookups"] if one["type"] == "A"]
    assert found == [("model.cluster.local", "nxdomain"), ("model.test", "ok"), ("model", "nxdomain")]
    assert section["data"]["options"] == {"ndots": 5, "timeout": 2, "rotate": True}


def test_no_resolver_configured_is_said(ns: Any, tmp_path: Path) -> None:
    section = lookups(ns, tmp_path, "# nothing\n", [])
    assert (section["data"]["servers"], section["data"]["lookups"]) == ([], [])
    assert any("no nameserver" in gap["why"] for gap in section["gaps"])
    (tmp_path / "etc" / "resolv.conf").unlink()
    code = ROOM.format("names") + f"s = names.read([], 1, root={str(tmp_path)!r})\n" + SHOW
    section = ns.python_json(code)
    assert section["data"]["source"] is None
    assert any("/etc/resolv.conf" in gap["why"] for gap in section["gaps"])


NTP = r"""
import socket, struct, time, sys
k = socket.socket(2, 2); k.bind(('10.77.0.1', 123)); print('ready')
shift, way = float(sys.argv[1]), sys.argv[2]
while True:
    d, peer = k.recvfrom(100)
    now = time.time() + shift + 2208988800
    stamp = struct.pack('!II', int(now) & 0xffffffff, int(now % 1 * 2**32))
    origin = d[40:48] if way != 'replay' else b'12345678'
    leap = 3 if way == 'unsynchronised' else 0
    k.sendto(bytes([leap << 6 | 0x24, 2, 0, 0]) + bytes(20) + origin + stamp + stamp, peer)
"""


@pytest.mark.parametrize(
    ("shift", "way", "status"),
    [("7.5", "", "ok"), ("-3600", "", "ok"), ("0", "unsynchronised", "unsynchronised"), ("9", "replay", "wrong")],
)
def test_the_clock_is_compared_with_a_time_server(pair: Any, shift: str, way: str, status: str) -> None:
    left, right = pair
    left.start_python(NTP, shift, way)
    section = right.python_json(
        ROOM.format("clock") + "s = clock.read(['10.77.0.1', '203.0.113.1', '10.77.0.1:124'], 1.0)\n" + SHOW
    )
    first, second, third = section["data"]["servers"]
    assert first["status"] == status
    if status == "ok":
        assert abs(first["offset_s"] - float(shift)) < 0.5
    else:
        assert first["offset_s"] is None
    assert (second["status"], third["status"]) == ("unreachable", "unreachable")
    assert section["data"]["synchronised"] in (True, False)


def test_the_kernels_word_on_the_clock(ns: Any) -> None:
    """Against adjtimex as the C library's own header lays it out, read by another program of the host."""
    section = ns.python_json(ROOM.format("clock") + "s = clock.read()\n" + SHOW)
    witness = ns.run(["python3", "-c", "import time; print(time.time())"])
    assert abs(section["data"]["time"] - float(witness.stdout)) < 60
    assert 0 <= section["data"]["estimated_error_s"] <= section["data"]["max_error_s"] <= 16
    assert abs(section["data"]["frequency_ppm"]) <= 500
    assert json.dumps(section["gaps"]) == "[]"
