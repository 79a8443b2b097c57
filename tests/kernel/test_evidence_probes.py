# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes against hosts that answer, refuse, stay silent, or answer wrongly: each must be told from the others."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
ROOM = "from ansible_collections.netops.fleet.plugins.module_utils._evidence import probes\n"
SHOW = "import json\nprint(json.dumps({'data': s.data, 'gaps': [g.to_dict() for g in s.gaps]}))\n"


def probe(ns: Any, *wanted: dict[str, Any], seconds: float = 8.0) -> Any:
    section = ns.python_json(ROOM + f"s = probes.run({list(wanted)!r}, {seconds})\n" + SHOW)
    assert section["gaps"] == []
    assert len(section["data"]) == len(wanted)
    return section["data"]


@pytest.mark.parametrize("address", ["10.77.0.1", "fd77::1"])
@pytest.mark.parametrize("way", ["ping socket", "raw socket"])
def test_ping_answers(pair: Any, address: str, way: str) -> None:
    left, right = pair
    allowed = "0 2147483647" if way == "ping socket" else "1 0"
    right.run(["sysctl", "-w", f"net.ipv4.ping_group_range={allowed}"])
    counter = "ip protocol icmp icmp type echo-request" if "." in address else "ip6 nexthdr icmpv6 icmpv6 type echo-request"
    left.run(
        [
            "nft",
            f"add table inet t; add chain inet t i {{ type filter hook input priority 0; }}; add rule inet t i {counter} counter",
        ]
    )
    (one,) = probe(right, {"kind": "ping", "target": address, "count": 5, "interval": 0.02})
    assert (one["status"], one["sent"], one["received"], one["loss_percent"]) == ("ok", 5, 5, 0.0)
    assert 0 < one["rtt_ms"]["min"] <= one["rtt_ms"]["avg"] <= one["rtt_ms"]["max"]
    assert one["from"] == address.replace("1", "2") if ":" in address else "10.77.0.2"
    expression = left.json(["nft", "-j", "list", "chain", "inet", "t", "i"])["nftables"][-1]["rule"]["expr"]
    assert expression[-1]["counter"]["packets"] == 5


def test_ping_that_loses_some_all_or_only_icmp(pair: Any) -> None:
    left, right = pair
    left.run(["ip", "addr", "add", "10.77.0.3/24", "dev", "va"])
    left.run(["ip", "addr", "add", "10.77.0.4/24", "dev", "va"])
    left.run(["nft", "add table t; add chain t i { type filter hook input priority 0; }"])
    left.run(["nft", "add rule t i ip daddr 10.77.0.1 icmp type echo-request numgen inc mod 2 0 drop"])
    left.run(["nft", "add rule t i ip daddr 10.77.0.3 icmp type echo-request drop"])
    left.run(["nft", "add rule t i ip daddr 10.77.0.4 drop"])
    base = {"kind": "ping", "count": 4, "interval": 0.02, "timeout": 2.0}
    lossy, icmp, dark, absent, nowhere = probe(
        right, *({**base, "target": f"10.77.0.{n}"} for n in (1, 3, 4, 99)), {**base, "target": "203.0.113.1"}
    )
    assert (lossy["status"], lossy["received"], lossy["loss_percent"]) == ("lossy", 2, 50.0)
    assert (icmp["status"], icmp["loss_percent"]) == ("icmp_blocked", 100.0)
    assert "refuses" in icmp["detail"]
    assert dark["status"] == "timeout"
    assert absent["status"] in ("unreachable", "timeout") and absent["received"] == 0
    assert nowhere["status"] == "unreachable"


def test_tcp_answers_refuses_or_is_silent(pair: Any) -> None:
    left, right = pair
    right.run(["nft", "add table t; add chain t o { type filter hook output priority 0; }; add rule t o tcp dport 5 drop"])
    left.run(["nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }"])
    left.run(["nft", "add rule inet t i tcp dport 9 drop; add rule inet t i tcp dport 7 reject with icmpx type admin-prohibited"])
    right.run(["ip", "addr", "add", "10.77.0.22/24", "dev", "vb"])
    left.start_python(
        "import socket\na = socket.create_server(('', 80)); b = socket.create_server(('fd77::1', 80), family=10)\n"
        "print('ready'); input()"
    )
    found = probe(
        right,
        *({"kind": "tcp", "target": "10.77.0.1", "port": port, "timeout": 1.5} for port in (80, 81, 9, 7, 5)),
        {"kind": "tcp", "target": "fd77::1", "port": 80},
        {"kind": "tcp", "target": "fd77::1", "port": 81},
        {"kind": "tcp", "target": "203.0.113.5", "port": 80},
        {"kind": "tcp", "target": "10.77.0.1", "port": 80, "source": "10.77.0.22"},
        {"kind": "tcp", "target": "10.77.0.1", "port": 80, "source": "10.88.0.1"},
        {"kind": "tcp", "target": "no-such-name.invalid", "port": 80},
        {"kind": "tcp", "target": "10.77.0.1", "port": 99999},
        {"kind": "smoke", "target": "10.77.0.1"},
    )
    statuses = [one["status"] for one in found]
    assert statuses[:4] == ["ok", "refused", "timeout", "unreachable"]
    assert statuses[4] in ("timeout", "prohibited")
    assert statuses[5:9] == ["ok", "refused", "unreachable", "ok"]
    assert statuses[9:] == ["error", "no_name", "error", "error"]
    assert (found[0]["address"], found[0]["from"], found[8]["from"]) == ("10.77.0.1", "10.77.0.2", "10.77.0.22")
    assert 0 < found[0]["ms"] < found[2]["ms"]
    assert found[5]["target"] == "[fd77::1]:80"


def test_udp_answers_refuses_or_is_silent(pair: Any) -> None:
    left, right = pair
    left.start_python(
        "import socket, threading\n"
        "silent = socket.socket(2, 2); silent.bind(('10.77.0.1', 6))\n"
        "k = socket.socket(2, 2); k.bind(('10.77.0.1', 7)); print('ready')\n"
        "while True:\n    d, p = k.recvfrom(100); k.sendto(d * 2, p)\n"
    )
    base = {"kind": "udp", "target": "10.77.0.1", "timeout": 0.7}
    found = probe(right, {**base, "port": 7, "payload": "abc"}, {**base, "port": 6}, {**base, "port": 8})
    assert [one["status"] for one in found] == ["ok", "no_answer", "refused"]
    assert found[0]["bytes"] == 6


HTTP = r"""
import http.server, json, socket, ssl, struct, sys, threading, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): pass
    def answer(self, code, body):
        self.send_response(code); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        if self.path == '/slow': time.sleep(0.3)
        if self.path.startswith('/auth'):
            return self.answer(200 if self.headers.get('Authorization') == 'Basic dXNlcjpwYXNz' else 401, b'in')
        if self.path == '/chunked':
            self.send_response(200); self.send_header('Transfer-Encoding', 'chunked'); self.end_headers()
            return self.wfile.write(b'3\r\nmod\r\n2\r\nel\r\n0\r\n\r\n')
        code = int(self.path[1:]) if self.path[1:].isdigit() else 200
        self.answer(code, b'{"object": "list", "data": ["model-a"]}')
    def do_POST(self):
        wanted = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        self.answer(200, json.dumps({'echo': wanted, 'type': self.headers['Content-Type']}).encode())
plain = http.server.ThreadingHTTPServer(('10.77.0.1', 80), H)
threading.Thread(target=plain.serve_forever, daemon=True).start()
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[1], sys.argv[2])
    context.set_alpn_protocols(['h2', 'http/1.1'])
    secure = http.server.ThreadingHTTPServer(('10.77.0.1', 443), H)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    threading.Thread(target=secure.serve_forever, daemon=True).start()
def raw(port, act):
    s = socket.create_server(('10.77.0.1', port))
    def loop():
        while True:
            c, _ = s.accept(); c.recv(4096); act(c); c.close()
    threading.Thread(target=loop, daemon=True).start()
raw(81, lambda c: c.sendall(b'SSH-2.0-x\r\n'))
raw(82, lambda c: c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)))
raw(83, lambda c: c.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort'))
raw(84, lambda c: time.sleep(30))
print('ready'); input()
"""


def test_http_answers_are_told_apart(pair: Any) -> None:
    left, right = pair
    left.start_python(HTTP)
    url = "http://10.77.0.1"
    found = probe(
        right,
        *(
            {"kind": "http", "url": url + path, "timeout": 2.0}
            for path in ("/", "/404", "/503", "/401", "/302", "/slow", "/chunked")
        ),
        *({"kind": "http", "url": f"{url}:{port}/", "timeout": 2.0} for port in (81, 82, 83, 84, 85)),
        {"kind": "http", "url": url + "/", "expect_body": "model-b"},
        {"kind": "http", "url": url + "/", "expect_body": "model-a"},
        {"kind": "http", "url": url + "/404", "expect_status": [404]},
        {"kind": "http", "url": url + "/v1", "json": {"prompt": "é"}, "expect_body": '"application/json"'},
        {"kind": "http", "url": "http://user:pass@10.77.0.1/auth?token=s3cret&x"},
        {"kind": "http", "url": "ftp://10.77.0.1/"},
    )
    assert [one["status"] for one in found] == [
        "ok", "not_found", "server_error", "http_error", "ok", "ok", "ok",
        "bad_answer", "reset", "bad_answer", "timeout", "refused",
        "wrong_body", "ok", "ok", "ok", "ok", "error",
    ]  # fmt: skip
    assert [one["code"] for one in found[:5]] == [200, 404, 503, 401, 302]
    assert found[6]["bytes"] == 5
    for one in (found[0], found[5]):
        phases = one["phases_ms"]
        assert phases["total"] >= phases["first_byte"] > 0 and phases["connect"] > 0 and phases["dns"] >= 0
    assert found[5]["phases_ms"]["first_byte"] > 250
    assert found[16]["target"] == "http://10.77.0.1/auth?token=***&x"
    assert "pass" not in str(found[16]) and "s3cret" not in str(found)


def test_tls_failures_are_told_from_the_rest(pair: Any, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    assert openssl, "the test makes certificates with openssl"
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=model",
        "-addext",
        "subjectAltName=IP:10.77.0.1",
    ]
    subprocess.run([*make, "-keyout", key, "-out", certificate, "-days", "3"], check=True, capture_output=True)
    left, right = pair
    left.start_python(HTTP, str(certificate), str(key))
    secure = {"kind": "http", "url": "https://10.77.0.1/", "timeout": 3.0}
    found = probe(
        right,
        secure,
        {**secure, "ca_file": str(certificate)},
        {**secure, "verify": False},
        {**secure, "ca_file": str(certificate), "server_name": "other.test"},
        {**secure, "url": "https://10.77.0.1:80/"},
        {**secure, "url": "https://10.77.0.1:85/"},
        {"kind": "tls", "target": "10.77.0.1", "port": 443, "ca_file": str(certificate), "alpn": ["h2"]},
    )
    assert [one["status"] for one in found] == ["tls_error", "ok", "ok", "tls_error", "tls_error", "refused", "ok"]
    assert "self-signed" in found[0]["detail"] or "self signed" in found[0]["detail"]
    assert "other.test" in found[3]["detail"]
    assert found[1]["tls"]["version"].startswith("TLSv1.") and found[1]["phases_ms"]["tls"] > 0
    asked = subprocess.run(
        [openssl, "x509", "-in", certificate, "-noout", "-enddate"], check=True, capture_output=True, text=True
    )
    assert found[1]["tls"]["expires"] == asked.stdout.strip().partition("=")[2]
    assert found[6]["tls"]["alpn"] == "h2"


def test_all_probes_together_are_bounded(pair: Any) -> None:
    """Probes that would wait far longer than all may: every one has an answer, and says that time was short."""
    left, right = pair
    left.run(["nft", "add table t; add chain t i { type filter hook input priority 0; }; add rule t i tcp dport 9 drop"])
    found = probe(right, *({"kind": "tcp", "target": "10.77.0.1", "port": 9, "timeout": 300.0} for _ in range(100)), seconds=1.0)
    assert {one["status"] for one in found} == {"timeout"}


def test_headers_of_a_probe_are_kept_out_of_the_result_and_short_values_blot_out_nothing(pair: Any) -> None:
    left, right = pair
    left.start_python(HTTP)
    asked = {"http": [{"url": "http://10.77.0.1/", "headers": {"Authorization": "Bearer s3cret-token", "DNT": "1"}}], "window": 0}
    module = [sys.executable, str(ROOT / "plugins/modules/host_evidence.py")]
    done = right.run(module, input=json.dumps({"ANSIBLE_MODULE_ARGS": asked}), env=right.environment())
    answer = json.loads(done.stdout)
    assert "s3cret" not in done.stdout and answer["host_time_start"] > 1e9
    evidence = gzip.decompress(base64.b64decode(answer["evidence"])).decode()
    assert "s3cret" not in evidence
    assert '"target":"http://10.77.0.1/"' in evidence and '"code":200' in evidence
