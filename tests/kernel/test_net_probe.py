# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes over routers, past firewalls and against servers that are wrong in one way each: the answer must name that way.

The witness is the network the test built: it knows which router stands where, what it drops, and what each server is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

CODE = (
    "import json, sys\n"
    "from ansible_collections.netops.fleet.plugins.module_utils._evidence import probes\n"
    "s = probes.run(json.loads(sys.argv[1]), float(sys.argv[2]), explain=True)\n"
    "print(json.dumps({'data': s.data, 'gaps': [g.to_dict() for g in s.gaps]}))\n"
)


def probe(ns: Any, *wanted: dict[str, Any], seconds: float = 30.0) -> list[dict[str, Any]]:
    section = ns.python_json(CODE, json.dumps(wanted), str(seconds))
    assert section["gaps"] == []
    found: list[dict[str, Any]] = section["data"]
    assert len(found) == len(wanted)
    return found


COUNTED = ["nft", "-j", "list", "chain", "inet", "t", "i"]


class Path3:
    """client 10.1.0.2 - 10.1.0.1 first 10.2.0.1 - 10.2.0.2 second 10.3.0.1 - 10.3.0.2 server; fd01::/64 and so on alike."""

    def __init__(self, make_ns: Callable[[], Any]) -> None:
        self.client, self.first, self.second, self.server = hosts = [make_ns() for _ in range(4)]
        for namespace in hosts:  # addresses are usable at once
            namespace.run(["sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"])
        for number, (left, right) in enumerate(zip(hosts, hosts[1:]), 1):
            left.run(["ip", "link", "add", f"r{number}", "type", "veth", "peer", "name", f"l{number}", "netns", right.name])
            low, high = (left, right) if number > 1 else (right, left)
            for namespace, address in ((low, 1), (high, 2)):
                link = f"r{number}" if namespace is left else f"l{number}"
                namespace.run(["ip", "addr", "add", f"10.{number}.0.{address}/24", "dev", link])
                namespace.run(["ip", "-6", "addr", "add", f"fd0{number}::{address}/64", "dev", link, "nodad"])
                namespace.run(["ip", "link", "set", link, "up"])
        for router in (self.first, self.second):
            router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
            # A router that answers every packet, so that the test need not send slowly.
            router.run(["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"])
        self.server.run(["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"])
        for namespace, via4, via6 in (
            (self.client, "10.1.0.1", "fd01::1"),
            (self.first, "10.2.0.2", "fd02::2"),
            (self.second, "10.2.0.1", "fd02::1"),
            (self.server, "10.3.0.1", "fd03::1"),
        ):
            namespace.run(["ip", "route", "add", "default", "via", via4])
            namespace.run(["ip", "-6", "route", "add", "default", "via", via6])


@pytest.fixture
def way(make_ns: Callable[[], Any]) -> Iterator[Path3]:
    yield Path3(make_ns)


@pytest.mark.parametrize("kind", ["udp", "tcp", "icmp", "raw icmp"])
@pytest.mark.parametrize("family", [4, 6])
def test_the_path_names_every_hop(way: Path3, kind: str, family: int) -> None:
    way.client.run(["sysctl", "-qw", "net.ipv4.ping_group_range=" + ("1 0" if kind == "raw icmp" else "0 2147483647")])
    target = "10.3.0.2" if family == 4 else "fd03::2"
    (one,) = probe(way.client, {"kind": "path", "target": target, "way": kind.split()[-1], "port": 33434})
    assert one["status"] == "ok", one
    expected = ["10.1.0.1", "10.2.0.2", "10.3.0.2"] if family == 4 else ["fd01::1", "fd02::2", "fd03::2"]
    assert [hop["addresses"] for hop in one["hops"]] == [[address] for address in expected]
    assert all((hop["sent"], hop["received"], hop["loss_percent"]) == (3, 3, 0.0) for hop in one["hops"])
    assert one["reached"] and one["loop"] == [] and one["lossy_from"] is None
    assert one["from"] == ("10.1.0.2" if family == 4 else "fd01::2")


def test_the_path_ends_where_a_router_is_silent_or_refuses(way: Path3) -> None:
    way.second.run(["nft", "add table inet t; add chain inet t f { type filter hook forward priority 0; }"])
    way.second.run(["nft", "add rule inet t f ip daddr 10.3.0.2 drop"])
    way.second.run(["nft", "add rule inet t f ip6 daddr fd03::2 reject with icmpx type admin-prohibited"])
    base = {"kind": "path", "queries": 2, "max_hops": 5, "wait": 0.3}
    silent, refused = probe(way.client, {**base, "target": "10.3.0.2"}, {**base, "target": "fd03::2"})
    assert silent["status"] == "timeout" and "behind hop 2 (10.2.0.2)" in silent["detail"]
    assert refused["status"] == "unreachable" and "admin-prohibited" in refused["detail"] and "fd02::2" in refused["detail"]


def test_loss_behind_a_hop_and_a_circle_are_named(way: Path3) -> None:
    way.second.run(["nft", "add table t; add chain t f { type filter hook forward priority 0; }"])
    way.second.run(["nft", "add rule t f ip daddr 10.3.0.2 numgen inc mod 2 0 drop"])
    way.second.run(["ip", "route", "add", "198.51.100.0/24", "via", "10.2.0.1"])
    lossy, circle = probe(
        way.client,
        {"kind": "path", "target": "10.3.0.2", "queries": 4, "wait": 0.3},
        {"kind": "path", "target": "198.51.100.9", "queries": 1, "max_hops": 12, "wait": 0.3},
    )
    assert lossy["status"] == "lossy" and lossy["lossy_from"] == 3, lossy
    assert (circle["status"] == "unreachable" and set(circle["loop"]) == {"10.1.0.1", "10.2.0.2"}) or "10.2.0.1" in circle["loop"]


@pytest.mark.parametrize("family", [4, 6])
def test_mtu_of_a_path_with_a_narrow_link(way: Path3, family: int) -> None:
    for namespace, link in ((way.first, "r2"), (way.second, "l2")):
        namespace.run(["ip", "link", "set", link, "mtu", "1400"])
    way.server.run(["nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }"])
    way.server.run(["nft", "add rule inet t i meta length 1400 counter; add rule inet t i meta length > 1400 counter"])
    target = "10.3.0.2" if family == 4 else "fd03::2"
    whole, udp, wanted = probe(
        way.client,
        {"kind": "mtu", "target": target},
        {"kind": "mtu", "target": target, "way": "udp"},
        {"kind": "mtu", "target": target, "min_mtu": 1500},
    )
    first = "10.1.0.1" if family == 4 else "fd01::1"
    for one in (whole, udp):
        assert one["status"] == "ok", one
        assert (one["mtu"]["path"], one["mtu"]["link"], one["mtu"]["black_hole"]) == (1400, 1500, False)
        assert [(told["sender"], told["mtu"]) for told in one["mtu"]["told"]] == [(first, 1400)]
    assert wanted["status"] == "too_small" and first in wanted["detail"]
    # The outside witness: what arrived at the server, counted by its own firewall.
    exact, above = (
        item["rule"]["expr"][-1]["counter"]["packets"] for item in way.server.json(COUNTED)["nftables"] if "rule" in item
    )
    assert exact >= 2 and above == 0


def test_a_path_mtu_black_hole_is_found_and_named(way: Path3) -> None:
    for namespace, link in ((way.first, "r2"), (way.second, "l2")):
        namespace.run(["ip", "link", "set", link, "mtu", "1400"])
    way.first.run(["nft", "add table t; add chain t o { type filter hook output priority 0; }"])
    way.first.run(["nft", "add rule t o icmp type destination-unreachable drop"])
    (one,) = probe(way.client, {"kind": "mtu", "target": "10.3.0.2", "tries": 1})
    assert one["status"] == "black_hole" and one["mtu"]["path"] == 1400 and one["mtu"]["told"] == [], one
    whole, dark = probe(way.client, {"kind": "mtu", "target": "10.1.0.1"}, {"kind": "mtu", "target": "10.1.0.77", "timeout": 4})
    assert whole["status"] == "ok" and whole["mtu"]["path"] == 1500
    assert dark["status"] in ("timeout", "unreachable")


def test_a_failure_says_who_refused_and_how_it_was_sent(way: Path3) -> None:
    way.second.run(["nft", "add table t; add chain t f { type filter hook forward priority 0; }"])
    way.second.run(["nft", "add rule t f tcp dport 9 reject with icmp type host-prohibited; add rule t f tcp dport 10 drop"])
    way.client.run(["ip", "route", "add", "blackhole", "203.0.113.0/24"])
    refused, prohibited, silent, absent, hole, udp = probe(
        way.client,
        {"kind": "tcp", "target": "10.3.0.2", "port": 7},
        {"kind": "tcp", "target": "10.3.0.2", "port": 9},
        {"kind": "tcp", "target": "10.3.0.2", "port": 10, "timeout": 1},
        {"kind": "tcp", "target": "10.1.0.77", "port": 80, "timeout": 5},
        {"kind": "tcp", "target": "203.0.113.5", "port": 80},
        {"kind": "udp", "target": "10.3.0.2", "port": 7},
    )
    assert refused["status"] == "refused" and "RST" in refused["detail"]
    assert prohibited["icmp"]["name"] == "host-prohibited" and prohibited["icmp"]["sender"] == "10.2.0.2"
    assert silent["status"] == "timeout" and silent["route"]["via"] == "10.1.0.1" and silent["route"]["dev"] == "r1"
    assert silent["neighbour"]["address"] == "10.1.0.1" and silent["neighbour"]["state"] not in ("failed", "incomplete")
    assert absent["status"] == "unreachable" and "neighbour failed" in absent["detail"], absent
    assert hole["status"] in ("unreachable", "error") and "route" in hole, hole
    assert udp["status"] == "refused" and udp["icmp"]["name"] == "port-unreachable" and udp["icmp"]["sender"] == "10.3.0.2"


SERVERS = r"""
import socket, struct, sys, threading
def loop(port, answer):
    s = socket.socket(2, 2); s.bind(('10.77.0.1', port))
    def run():
        while True:
            d, p = s.recvfrom(2000); a = answer(d)
            if a: s.sendto(a, p)
    threading.Thread(target=run, daemon=True).start()
def quic(d):
    size = d[5]; dcid = d[6:6+size]; rest = d[6+size:]; scid = rest[1:1+rest[0]]
    if len(d) < 1200: return None
    head = bytes([0x80]) + bytes(4) + bytes([len(scid)]) + scid + bytes([len(dcid)]) + dcid
    return head + struct.pack('!III', 1, 0x6b3343cf, 0x1a2a3a4a)
def name(d, address):
    question = d[12:]
    return d[:2] + b'\x81\x80\0\1\0\1\0\0\0\0' + question + b'\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4' + socket.inet_aton(address)
loop(443, quic)
loop(444, lambda d: b'no quic')
loop(53, lambda d: name(d, '192.0.2.7'))
loop(54, lambda d: d[:2] + b'\x81\x83\0\1\0\0\0\0\0\0' + d[12:])
loop(7, lambda d: d + b'\x01\x02')
def late(d):
    import time
    now = time.time() + 2208988800 - 60
    stamp = struct.pack('!II', int(now), 0)
    return bytes([0x24, 2, 0, 0]) + bytes(20) + d[40:48] + stamp + stamp
loop(123, late)
print('ready'); input()
"""


def test_request_and_response_over_udp(pair: Any) -> None:
    left, right = pair
    left.start_python(SERVERS)
    base = {"target": "10.77.0.1", "timeout": 2}
    quic, none, echo, unlike, clock = probe(
        right,
        {**base, "kind": "quic"},
        {**base, "kind": "quic", "port": 444},
        {**base, "kind": "udp", "port": 7, "payload_hex": "00ff", "expect_hex": "0102"},
        {**base, "kind": "udp", "port": 7, "payload": "abc", "expect_body": "xyz"},
        {**base, "kind": "ntp"},
    )
    assert (quic["status"], quic["versions"]) == ("ok", ["1", "2"])
    assert none["status"] == "bad_answer"
    assert (echo["status"], echo["bytes"]) == ("ok", 4)
    assert unlike["status"] == "wrong_body"
    assert clock["status"] == "clock_offset" and -61 < clock["offset_s"] < -59 and clock["stratum"] == 2
    good, wrong, absent = probe(
        right,
        {"kind": "dns", "target": "model.test", "servers": ["10.77.0.1"], "expect": ["192.0.2.7"], "timeout": 2},
        {"kind": "dns", "target": "model.test", "servers": ["10.77.0.1"], "expect": ["192.0.2.8"], "timeout": 2},
        {"kind": "dns", "target": "model.test", "servers": ["10.77.0.1"], "port": 54, "timeout": 2},
    )
    assert (good["status"], good["lookups"][0]["answers"]) == ("ok", ["192.0.2.7"])
    assert wrong["status"] == "wrong_answer" and "192.0.2.8" in wrong["detail"]
    assert absent["status"] == "nxdomain"


def test_a_probe_comes_from_the_source_it_names_or_says_why_not(pair: Any) -> None:
    left, right = pair
    left.start_python(SERVERS)
    witness = left.start_python(
        "import socket\ns = socket.create_server(('::', 80), family=10, dualstack_ipv6=True)\nprint('ready')\n"
        "for _ in range(2):\n    print(s.accept()[1][0])\n"
    )
    for namespace, link, number in ((left, "va", 1), (right, "vb", 2)):
        namespace.run(["ip", "-6", "addr", "add", f"fd77::1{number}/64", "dev", link, "nodad"])
        namespace.run(["ip", "addr", "add", f"10.77.0.1{number}/24", "dev", link])
    sixth = {"target": "fd77::1", "source": "fd77::12"}
    second, echo, size, third, other, absent, far, quic = probe(
        right,
        {"kind": "tcp", "target": "10.77.0.1", "port": 80, "source": "10.77.0.12"},
        {"kind": "ping", **sixth},
        {"kind": "mtu", **sixth},
        {"kind": "tcp", **sixth, "port": 80},
        {"kind": "udp", "target": "10.77.0.1", "port": 7, "source": "fd77::2"},
        {"kind": "udp", "target": "10.77.0.1", "port": 7, "source": "10.77.0.99"},
        {"kind": "mtu", "target": "10.77.0.1", "source": "10.77.0.300"},
        {"kind": "quic", "target": "10.77.0.1", "port": 70000},
    )
    assert [one["status"] for one in (second, echo, size, third)] == ["ok"] * 4, (second, echo, size, third)
    assert [one["from"] for one in (second, echo, size, third)] == ["10.77.0.12", *["fd77::12"] * 3] and size["mtu"][
        "path"
    ] == 1500
    output, _none = witness.communicate(timeout=20)
    assert sorted(output.split()) == ["::ffff:10.77.0.12", "fd77::12"]
    assert [one["status"] for one in (other, absent, far, quic)] == ["error"] * 4, (other, absent, far, quic)
    assert "family of source fd77::2" in other["detail"] and "cannot assign requested address" in absent["detail"]
    assert "10.77.0.300 is no IP address" in far["detail"] and "70000 is not within" in quic["detail"]


TLS = r"""
import socket, ssl, sys, threading
def serve(port, certificate, key, oldest, newest):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_ciphers('ALL:@SECLEVEL=0')
    context.minimum_version, context.maximum_version = getattr(ssl.TLSVersion, oldest), getattr(ssl.TLSVersion, newest)
    listener = socket.create_server(('10.77.0.1', port))
    def one(c):
        try:
            context.wrap_socket(c, server_side=True).close()
        except OSError:
            c.close()
    def run():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()
for number, words in enumerate(sys.argv[1:]):
    serve(8000 + number, *words.split(','))
print('ready'); input()
"""


class Authority:
    """A root, an intermediate, and what they sign; made by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tool = shutil.which("openssl")
        assert self.tool, "the test makes certificates with openssl"
        ca = "basicConstraints=critical,CA:TRUE\n"
        self._make("root", "root", ca, days=3650)
        self._make("middle", "root", ca, days=3650)

    def _run(self, *words: str) -> None:
        subprocess.run([str(self.tool), *words], check=True, capture_output=True, cwd=self.folder)

    def _make(self, name: str, signer: str, extensions: str, days: int = 0, window: tuple[str, str] | None = None) -> None:
        (self.folder / f"{name}.ext").write_text(extensions)
        self._run(
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/O=Test/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        sign = (
            ["-signkey", f"{name}.key"]
            if name == signer
            else ["-CA", f"{signer}.crt", "-CAkey", f"{signer}.key", "-CAcreateserial"]
        )
        if window is None:
            self._run(
                "x509", "-req", "-in", f"{name}.csr", *sign, "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.crt"
            )
            return
        # Only "ca" can make a certificate of the past with every version of openssl.
        (self.folder / "index").write_text("")
        (self.folder / "serial").write_text("01\n")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\nO=optional\nCN=supplied\n"
        )
        self._run(
            "ca", "-batch", "-config", "ca.cnf", "-cert", f"{signer}.crt", "-keyfile", f"{signer}.key", "-in", f"{name}.csr",
            "-startdate", window[0], "-enddate", window[1], "-extfile", f"{name}.ext", "-out", f"{name}.crt", "-notext",
        )  # fmt: skip

    def server(
        self,
        name: str,
        days: int = 90,
        with_middle: bool = True,
        san: str = "IP:10.77.0.1",
        window: tuple[str, str] | None = None,
    ) -> str:
        self._make(name, "middle", f"subjectAltName={san}\n", days, window)
        chain = (self.folder / f"{name}.crt").read_text() + ((self.folder / "middle.crt").read_text() if with_middle else "")
        (self.folder / f"{name}.pem").write_text(chain)
        return f"{self.folder}/{name}.pem,{self.folder}/{name}.key"


def test_what_is_wrong_with_a_certificate_is_named(pair: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    left, right = pair
    servers = [
        f"{authority.server('good')},TLSv1_2,TLSv1_3",
        f"{authority.server('old', window=('20200101000000Z', '20210101000000Z'))},TLSv1_2,TLSv1_2",
        f"{authority.server('alone', with_middle=False)},TLSv1_2,TLSv1_2",
        f"{authority.server('other', san='DNS:other.test')},TLSv1_2,TLSv1_2",
        f"{authority.server('soon', days=3)},TLSv1_2,TLSv1_2",
        f"{authority.server('lax')},TLSv1,TLSv1_2",
        f"{authority.server('new')},TLSv1_3,TLSv1_3",
    ]
    left.start_python(TLS, *servers)
    base = {
        "kind": "tls",
        "target": "10.77.0.1",
        "certificates": True,
        "versions": True,
        "ca_file": str(tmp_path / "root.crt"),
        "timeout": 8,
    }
    good, old, alone, other, soon, lax, new, unknown = probe(
        right,
        *({**base, "port": 8000 + number} for number in range(7)),
        {"kind": "tls", "target": "10.77.0.1", "port": 8000, "certificates": True},
    )
    assert good["status"] == "ok" and good["complete"] is True, good
    assert [one["subject"] for one in good["chain"]] == ["CN=good, O=Test", "CN=middle, O=Test"]
    assert good["chain"][0]["names"] == ["10.77.0.1"] and 89 < good["chain"][0]["expires_in_days"] <= 90
    assert good["versions"] == {"TLSv1": "refused", "TLSv1.1": "refused", "TLSv1.2": "accepted", "TLSv1.3": "accepted"}
    assert (old["problem"], old["status"]) == ("expired", "tls_error") and "CN=old" in old["detail"]
    assert alone["problem"] == "incomplete_chain" and alone["complete"] is False and "CN=middle" in alone["detail"]
    assert other["problem"] == "wrong_name" and "other.test" in other["detail"]
    assert soon["problem"] == "expires_soon"
    assert lax["problem"] == "old_version" and "TLSv1 " in lax["detail"] + " ", lax
    assert new["status"] == "ok" and new["versions"]["TLSv1.2"] == "refused" and new["chain"][0]["subject"] == "CN=new, O=Test"
    assert unknown["status"] == "tls_error" and unknown["problem"] in ("untrusted", "self_signed", "incomplete_chain")
