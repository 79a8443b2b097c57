# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as they are in the wild: what forwards, balances or publishes ports, and what a careless reader would get wrong."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

_COLLECT = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import collect
params = {name: spec.get("default") for name, spec in collect.ARGUMENTS.items()}
params.update(window=0, peers=[{"host": "left", "address": "10.77.0.1"}], **json.loads(sys.argv[1]))
print(json.dumps(collect.collect(collect.Options.from_params(params))))
"""

_SERVER = """
import socket, sys, threading
server = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""

_CLIENT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.7).close()
    print('"accept"')
except TimeoutError:
    print('"drop"')
except OSError:
    print('"reject"')
"""

# What Docker writes for one published port, without its proxy.
_DOCKER = """
iptables-nft -t nat -N DOCKER
iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables-nft -t nat -A DOCKER -i docker0 -j RETURN
iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
iptables-nft -N DOCKER
iptables-nft -N DOCKER-USER
iptables-nft -P INPUT DROP
iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT
iptables-nft -P FORWARD DROP
iptables-nft -A FORWARD -j DOCKER-USER
iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-nft -A FORWARD -o docker0 -j DOCKER
iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables-nft -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
"""

# What kube-proxy writes in nft mode for a node port with two endpoints and for one without.
_KUBE = """
table ip kube-proxy {
  map ports { type inet_proto . inet_service : verdict; elements = { tcp . 30080 : goto external } }
  map empty { type inet_proto . inet_service : verdict; elements = { tcp . 31999 : goto refuse } }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat
    ip daddr 10.77.0.2 meta l4proto . th dport vmap @ports
  }
  chain filter-input {
    type filter hook input priority -110
    ct state new ip daddr 10.77.0.2 meta l4proto . th dport vmap @empty
  }
  chain refuse {
    reject
  }
  chain external {
    meta mark set meta mark or 0x4000
    numgen random mod 2 vmap { 0 : goto first, 1 : goto second }
  }
  chain first {
    meta l4proto tcp dnat to 10.244.1.5:8080
  }
  chain second {
    meta l4proto tcp dnat to 10.244.1.6:8080
  }
}
"""


def _diagnose(namespace: Any, target: str | None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = namespace.python_json(_COLLECT, json.dumps({"target": target, **more}))
    return found


def _ids(evidence: dict[str, Any]) -> list[str]:
    return [one["id"] for one in evidence["findings"] if not _of_the_machine(one)]


def _of_the_machine(finding: dict[str, Any]) -> bool:
    """Right here and nobody's subject: its name servers are out of reach in a namespace, and it may be busy."""
    return finding["id"] in ("resolver-dead", "cpu-starved") or (
        finding["id"] == "route-missing" and " resolver " in finding["summary"]
    )


def _steps(evidence: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {step["step"]: (step["result"], step["detail"]) for step in evidence["answer"]["steps"]}


@pytest.fixture
def docker_host(pair: Any, make_ns: Any) -> tuple[Any, Any]:
    """(client, host): the host publishes tcp/8080 of a container's tcp/80, as Docker does."""
    client, host = pair
    container = make_ns()
    host.run(["ip", "link", "add", "docker0", "type", "bridge"])
    host.run(["ip", "link", "add", "vh", "type", "veth", "peer", "name", "eth0", "netns", container.name])
    host.run(["ip", "link", "set", "vh", "master", "docker0", "up"])
    host.run(["ip", "addr", "add", "172.17.0.1/16", "dev", "docker0"])
    host.run(["ip", "link", "set", "docker0", "up"])
    host.run(["ip", "route", "add", "default", "via", "10.77.0.1"])
    host.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    container.run(["ip", "addr", "add", "172.17.0.2/16", "dev", "eth0"])
    container.run(["ip", "link", "set", "eth0", "up"])
    container.run(["ip", "route", "add", "default", "via", "172.17.0.1"])
    container.start_python(_SERVER, "80")
    host.run(["sh", "-es"], input=_DOCKER)
    return client, host


def test_a_published_port_is_forwarded_not_missing(docker_host: Any, wait_until: Any) -> None:
    client, host = docker_host
    wait_until(lambda: client.python_json(_CLIENT, "10.77.0.2", "8080") == "accept")
    evidence = _diagnose(host, "tcp/8080")
    assert _ids(evidence) == []
    assert evidence["answer"]["verdict"] != "blocked"
    result, detail = _steps(evidence)["listening"]
    assert result == "ok" and "172.17.0.2" in detail and "port 80" in detail
    assert _steps(evidence)["firewall"][0] == "ok"


def test_a_rule_in_the_way_of_a_published_port_is_named_and_mended(docker_host: Any, wait_until: Any) -> None:
    client, host = docker_host
    wait_until(lambda: client.python_json(_CLIENT, "10.77.0.2", "8080") == "accept")
    host.run(["iptables-nft", "-I", "DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP"])
    assert client.python_json(_CLIENT, "10.77.0.2", "8080") == "drop"
    evidence = _diagnose(host, "tcp/8080")
    assert _ids(evidence) == ["firewall-drops-target"]
    (finding,) = [one for one in evidence["findings"] if one["id"] == "firewall-drops-target"]
    assert "DOCKER-USER line 1" in finding["subject"]
    assert not any(line.startswith("# docker") for line in finding["fix"]), "that chain is the operator's"
    for line in finding["fix"]:
        host.run(["sh", "-c", line])
    assert client.python_json(_CLIENT, "10.77.0.2", "8080") == "accept"


def test_a_port_redirected_to_one_where_nothing_listens_is_not_open(pair: Any) -> None:
    _client, host = pair
    rule = "table ip n {\nchain p {\ntype nat hook prerouting priority -100\ntcp dport 80 redirect to :1678\n}\n}\n"
    host.run(["nft", "-f", "-"], input=rule)
    evidence = _diagnose(host, "tcp/80")
    assert "port-not-listening" in _ids(evidence)
    host.start_python(_SERVER, "1678")
    evidence = _diagnose(host, "tcp/80")
    assert "port-not-listening" not in _ids(evidence)
    assert "port 1678 of this host" in _steps(evidence)["listening"][1]


def test_a_node_port_with_endpoints_is_not_called_closed(pair: Any) -> None:
    _client, host = pair
    host.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])  # as every node has it
    host.run(["nft", "-f", "-"], input=_KUBE)
    evidence = _diagnose(host, "tcp/30080")
    assert _ids(evidence) == []
    assert evidence["answer"]["verdict"] == "unknown", "which endpoint is taken is not known"
    assert "10.244.1.5" in _steps(evidence)["listening"][1] and "10.244.1.6" in _steps(evidence)["listening"][1]


def test_a_node_port_without_endpoints_is_refused_by_its_rule(pair: Any) -> None:
    client, host = pair
    host.run(["nft", "-f", "-"], input=_KUBE)
    assert client.python_json(_CLIENT, "10.77.0.2", "31999") == "reject"
    evidence = _diagnose(host, "tcp/31999")
    finding = next(one for one in evidence["findings"] if one["id"] == "firewall-drops-target")
    assert "refuse" in finding["subject"]


def test_a_link_without_address_is_right_where_the_address_is_kept_on_lo(pair: Any, wait_until: Any) -> None:
    client, host = pair
    wait_until(lambda: "tentative" not in host.run(["ip", "-6", "addr", "show", "dev", "vb"]).stdout)
    client.run(["ip", "-6", "addr", "add", "fe80::1/64", "dev", "va", "nodad"])
    script = """
    ip addr flush dev vb scope global
    ip addr add 192.0.2.7/32 dev lo
    ip -6 addr add 2001:db8::7/128 dev lo
    ip -4 route add default via inet6 fe80::1 dev vb
    """
    host.run(["sh", "-es"], input=script)
    assert _ids(_diagnose(host, None)) == []
    host.start_python(_SERVER, "1678")
    rule = "table inet f {\nchain i {\ntype filter hook input priority 0\niifname vb tcp dport 1678 drop\n}\n}\n"
    host.run(["nft", "-f", "-"], input=rule)
    found = [one for one in _diagnose(host, "tcp/1678")["findings"] if one["id"] == "firewall-drops-target"]
    assert [one["data"]["addresses"] for one in found] == [["192.0.2.7"]]


def test_a_firewall_that_may_not_be_read_is_not_checked(pair: Any) -> None:
    _client, host = pair
    host.run(["nft", "add", "table", "inet", "f"])
    argv = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-c", _COLLECT, '{"target": null}']
    evidence = json.loads(host.run(argv, env=host.environment()).stdout.splitlines()[-1])
    (firewall,) = [one for one in evidence["coverage"] if one["section"] == "firewall"]
    assert firewall["status"] == "failed"
    assert any("ermitted" in gap["why"] for gap in firewall["gaps"])
    assert not [key for key in evidence["objects"] if key.startswith(("rule", "chain"))]
