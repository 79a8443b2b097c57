# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way of forwarding and every kind of service that lvs_wrr writes, seen by real packets: who answers the client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.guest import Guest
from tests.lab.lvs_net import PORT, VIP, VIP6, Segment, service

pytestmark = [pytest.mark.lab, pytest.mark.machine, pytest.mark.drill]

UDP, SCTP = 5353, 9999

#: Answers datagrams and SCTP associations with the server's name.
_BACKEND = r"""
import socket, threading
name, vip, udp_port, sctp_port = args
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((vip, udp_port))
sctp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
# Bound to one address: an association would tell the client all others as well, past the director.
sctp.bind((vip, sctp_port))
sctp.listen(16)
def datagrams():
    while True:
        _data, peer = udp.recvfrom(2048)
        udp.sendto(name.encode(), peer)
threading.Thread(target=datagrams, daemon=True).start()
print("ready", flush=True)
while True:
    peer, _address = sctp.accept()
    peer.recv(100)
    peer.sendall(name.encode())
    peer.close()
"""

_ASK_UDP = """
import socket
address, port, count, fresh = args
result, one = [], None
for _ in range(count):
    if one is None or fresh:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.settimeout(20)
    one.sendto(b"who", (address, port))
    result.append(one.recv(100).decode())
"""

_ASK_SCTP = """
import socket
address, port, count, mine = args
result = []
for _ in range(count):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as one:
        one.settimeout(20)
        one.bind((mine, 0))
        one.connect((address, port))
        one.sendall(b"who")
        result.append(one.recv(100).decode())
"""


@pytest.fixture(scope="module")
def segment(guest: Guest) -> Iterator[Segment]:
    with Segment(guest, servers=2) as made:
        guest.sh("modprobe -a sctp ipip")
        for server in made.servers:
            made.serve(server, _BACKEND, VIP, UDP, SCTP)
        yield made


@pytest.fixture
def lvs(segment: Segment) -> Iterator[Segment]:
    yield segment
    segment.renew()


def made(lvs: Segment, *services: dict[str, Any]) -> None:
    result = lvs.lvs(list(services))
    assert not result["failed"], result["msg"]
    assert lvs.lvs(list(services))["writes"] == 0


def two(**more: Any) -> list[dict[str, Any]]:
    return [{"address": "10.66.0.101", "weight": 3, **more}, {"address": "10.66.0.102", "weight": 5, **more}]


def test_nat_changes_the_port(lvs: Segment) -> None:
    """Answers must come back through the director: the servers' way to the client leads there."""
    lvs.guest.sh("sysctl -qw net.ipv4.conf.eth0.send_redirects=0", netns=lvs.ns("dir1"))
    way = f"{lvs.address('cl')}/32 via {lvs.address('dir1')}"
    for server in lvs.servers:
        lvs.guest.sh(f"ip route add {way}", netns=lvs.ns(server))
    try:
        made(lvs, {"address": VIP, "port": 80, "servers": two(forward="nat", port=PORT)})
        assert Counter(lvs.requests(16, port=80)) == {"rs1": 6, "rs2": 10}
    finally:
        for server in lvs.servers:
            lvs.guest.sh(f"ip route del {way}", netns=lvs.ns(server))


def test_tunnel(lvs: Segment) -> None:
    for server in lvs.servers:
        quiet = " ".join(f"net.ipv4.conf.{link}.rp_filter=0" for link in ("all", "default", "tunl0"))
        lvs.guest.sh(f"ip link set tunl0 up; sysctl -qw {quiet}", netns=lvs.ns(server))
    made(lvs, service(servers=two(forward="tunnel")))
    assert Counter(lvs.requests(16)) == {"rs1": 6, "rs2": 10}
    shown = [lvs.guest.sh("cat /sys/class/net/tunl0/statistics/rx_packets", netns=lvs.ns(one)) for one in lvs.servers]
    assert all(int(one) > 0 for one in shown), "they came through the tunnel"


@pytest.mark.parametrize("family", [4, 6])
def test_packets_known_by_their_mark(lvs: Segment, family: int) -> None:
    vip = VIP if family == 4 else VIP6
    lvs.guest.sh(
        "nft add table inet lvs; "
        "nft add chain inet lvs marks '{ type filter hook prerouting priority mangle; }'; "
        f"nft add rule inet lvs marks {'ip' if family == 4 else 'ip6'} daddr {vip} tcp dport {PORT} meta mark set 7",
        netns=lvs.ns("dir1"),
    )
    servers = service(3, 5, family=family)["servers"]
    made(lvs, {"fwmark": 7, "family": f"ipv{family}", "servers": servers})
    assert Counter(lvs.requests(16, vip)) == {"rs1": 6, "rs2": 10}


def test_datagrams(lvs: Segment) -> None:
    """A client keeps its server, unless every packet is scheduled by itself."""
    wanted = {"address": VIP, "port": UDP, "protocol": "udp", "servers": two()}

    def ask(fresh: bool) -> Counter[str]:
        return Counter(lvs.guest.call(_ASK_UDP, VIP, UDP, 16, fresh, netns=lvs.ns("cl")))

    made(lvs, wanted)
    assert ask(True) == {"rs1": 6, "rs2": 10}
    assert len(ask(False)) == 1
    made(lvs, {**wanted, "flags": ["one-packet"]})
    assert ask(False) == {"rs1": 6, "rs2": 10}


def test_sctp(lvs: Segment) -> None:
    made(lvs, {"address": VIP, "port": SCTP, "protocol": "sctp", "servers": two()})
    asked = lvs.guest.call(_ASK_SCTP, VIP, SCTP, 16, lvs.address("cl"), netns=lvs.ns("cl"))
    assert Counter(asked) == {"rs1": 6, "rs2": 10}


def test_a_full_server_gets_no_more(lvs: Segment) -> None:
    wanted = service(1, 1)
    wanted["servers"][0].update(upper_threshold=2, lower_threshold=1)
    made(lvs, wanted)
    streams = lvs.streams(6)
    assert Counter(streams.owners) == {"rs1": 2, "rs2": 4}
    assert {state for states in streams.alive().values() for state in states} == {"alive"}


@pytest.mark.parametrize("expires", [1, 0])
def test_a_client_stays_with_its_server_until_it_drains(lvs: Segment, expires: int) -> None:
    """Without expire_quiescent_template a known client is still sent to a draining server: why that lint rule is an error."""
    lvs.guest.sh(f"sysctl -qw net.ipv4.vs.expire_quiescent_template={expires}", netns=lvs.ns("dir1"))
    made(lvs, service(1, 1, persistence=300))
    first = set(lvs.requests(6))
    assert len(first) == 1
    own = first.pop()
    other = {"rs1": "rs2", "rs2": "rs1"}[own]
    weights = [0, 1] if own == "rs1" else [1, 0]
    result = lvs.lvs([service(*weights, persistence=300)], ignore_lint=[] if expires else ["persistence-drain"])
    assert not result["failed"], result["msg"]
    assert set(lvs.requests(6)) == ({other} if expires else {own})
