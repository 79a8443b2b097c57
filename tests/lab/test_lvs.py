# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""lvs_wrr on a distribution's kernel: real connections through a director, ``ipvsadm`` as the witness."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._lvs import lint
from tests.lab.guest import Guest
from tests.lab.lvs_net import VIP, VIP6, Segment, service

pytestmark = [pytest.mark.lab, pytest.mark.machine]


@pytest.fixture(scope="module")
def segment(guest: Guest) -> Iterator[Segment]:
    with Segment(guest, servers=3) as made:
        yield made


@pytest.fixture
def lvs(segment: Segment) -> Iterator[Segment]:
    """The segment with a director that has no table, no connections, no record, and the kernel's own settings."""
    yield segment
    segment.renew()


def ops(result: dict[str, Any]) -> list[str]:
    return [one["op"] for one in result["changes"]]


def alive(found: dict[str, list[str]]) -> dict[str, int]:
    """Server → streams alive; fails when one is not."""
    assert {state for states in found.values() for state in states} <= {"alive"}, found
    return {name: len(states) for name, states in found.items()}


def loaded(guest: Guest) -> set[str]:
    return {line.split()[0] for line in guest.run(["cat", "/proc/modules"]).out.splitlines()}


def test_check_mode_loads_no_module(guest: Guest) -> None:
    """Runs first in a fresh guest: everything after it has ip_vs loaded."""
    before = loaded(guest)
    assert "ip_vs" not in before
    segment = Segment(guest, directors=1)
    space = segment.ns("dir1")
    guest.sh(f"ip netns add {space}; ip -n {space} link set lo up; ip -n {space} route add 10.66.0.0/24 dev lo")
    result = segment.lvs([service(3, 5)], check=True)
    assert not result["failed"], result["msg"]
    assert ops(result) == ["add_service", "add_server", "add_server"]
    assert loaded(guest) == before
    # The control: the usual tool does load it.
    guest.run(["ipvsadm", "-Ln"], space)
    assert "ip_vs" in loaded(guest)
    guest.sh(f"ip netns del {space}")


def test_weights_three_and_five_split_exactly(lvs: Segment) -> None:
    first = lvs.lvs([service(3, 5)])
    assert first["changed"] and first["writes"] == 3 and not first["failed"], first["msg"]
    assert lvs.rules() == [
        f"-A -t {VIP}:8080 -s wrr",
        f"-a -t {VIP}:8080 -r 10.66.0.101:8080 -g -w 3",
        f"-a -t {VIP}:8080 -r 10.66.0.102:8080 -g -w 5",
    ]
    assert Counter(lvs.requests(80)) == {"rs1": 30, "rs2": 50}
    second = lvs.lvs([service(3, 5)])
    assert second["last"] == {"10.66.0.101": 3, "10.66.0.102": 5}, "what the weights of a run without data are"
    assert not second["changed"] and second["writes"] == 0 and second["changes"] == []
    assert second["diff"]["before"] == second["diff"]["after"]


def test_check_mode_writes_nothing_and_tells_exactly(lvs: Segment) -> None:
    lvs.lvs([service(3, 5), service(1, port=9090)])
    wanted = [service(4, 5, 2, scheduler="mh", flags=["mh-fallback"]), service(1, family=6)]
    before = lvs.rules()
    told = lvs.lvs(wanted, check=True, timeouts={"tcp": 1200})
    assert lvs.rules() == before
    done = lvs.lvs(wanted, timeouts={"tcp": 1200})
    assert told["changes"] == done["changes"]
    assert told["diff"] == done["diff"]
    assert ops(done) == [
        "set_timeouts", "add_service", "add_server", "add_server", "edit_service", "edit_server", "drain_server", "delete_server",
        "delete_service",
    ]  # fmt: skip
    assert "1200 120 300" in lvs.ipvsadm("-Ln", "--timeout")
    assert done["writes"] == len(done["changes"])


def test_wrr_serves_in_bursts(lvs: Segment) -> None:
    """Why weights are kept small: the surplus of a server comes at once."""
    lvs.lvs([service(8, 1)])
    order = "".join(name[2:] for name in lvs.requests(18))
    assert order.count("2") == 2 and "1" * 8 in order, order


def test_edits_keep_every_connection(lvs: Segment) -> None:
    """Weights, thresholds and scheduler of a service in use. The control: deleting and making it again resets all."""
    lvs.guest.sh("sysctl -qw net.ipv4.vs.expire_nodest_conn=1", netns=lvs.ns("dir1"))
    lvs.lvs([service(3, 5)])
    streams = lvs.streams(8)
    assert Counter(streams.owners) == {"rs1": 3, "rs2": 5}
    lvs.lvs([service(1, 7)])
    wanted = service(1, 7, scheduler="mh", flags=["mh-fallback", "mh-port"])
    wanted["servers"][0].update(upper_threshold=100, lower_threshold=50)
    result = lvs.lvs([wanted])
    assert ops(result) == ["edit_service", "edit_server"]
    assert f"-A -t {VIP}:8080 -s mh -b mh-fallback,mh-port" in lvs.rules()
    shown = [line.split() for line in lvs.ipvsadm("-Ln", "--thresholds").splitlines()]
    assert ["->", "10.66.0.101:8080", "100", "50"] in [words[:4] for words in shown]
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    assert lvs.lvs([wanted])["writes"] == 0
    lvs.ipvsadm("-D", "-t", f"{VIP}:8080")
    lvs.lvs([wanted])
    assert "alive" not in {state for states in streams.alive().values() for state in states}


def test_drain_lets_every_stream_finish(lvs: Segment) -> None:
    limits = {"tcp_fin": 1}
    lvs.lvs([service(3, 5)], timeouts=limits)
    streams = lvs.streams(8)
    result: dict[str, Any] = {}

    def drain() -> None:
        result.update(lvs.lvs([service(3)], timeouts=limits, drain_timeout=120, on_timeout="fail"))

    running = threading.Thread(target=drain)
    running.start()
    lvs.guest.sh(
        "timeout 60 sh -c \"until ipvsadm -Sn | grep -q '10.66.0.102:8080 -g -w 0'; do sleep 0.1; done\"", netns=lvs.ns("dir1")
    )
    assert Counter(lvs.requests(6)) == {"rs1": 6}, "new connections go to the server that stays"
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}, "old ones go on while it drains"
    assert running.is_alive(), "it waits for them"
    streams.close("rs2")
    running.join(100)
    assert not result["failed"], result["msg"]
    assert ops(result) == ["drain_server", "delete_server"]
    assert result["connections_dropped"] == 0
    assert lvs.rules() == [f"-A -t {VIP}:8080 -s wrr", f"-a -t {VIP}:8080 -r 10.66.0.101:8080 -g -w 3"]
    assert alive(streams.alive()) == {"rs1": 3}


def test_removal_in_use_is_refused_then_forced(lvs: Segment) -> None:
    lvs.lvs([service(3, 5)])
    streams = lvs.streams(8)
    refused = lvs.lvs([service(3)], drain_timeout=0, on_timeout="fail")
    assert refused["failed"] and "still in use" in refused["msg"] and "5 active" in refused["msg"]
    assert refused["connections_at_risk"] == 5 and refused["connections_dropped"] == 0
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    assert f"-a -t {VIP}:8080 -r 10.66.0.102:8080 -g -w 0" in lvs.rules()
    forced = lvs.lvs([service(3)], force=True)
    assert ops(forced) == ["delete_server"] and forced["connections_dropped"] == 5
    assert [one["id"] for one in forced["lint"]] == ["nodest-hang"]
    found = streams.alive(2)
    assert found["rs1"] == ["alive"] * 3
    assert set(found["rs2"]) == {"TimeoutError"}, "without expire_nodest_conn their packets are dropped"
    lvs.lvs([service(3, 5)])
    found = streams.alive(30)
    assert "alive" in found["rs2"], "they hung, and go on when the server is back before they give up"


def test_forced_removal_resets_with_expire_nodest_conn(lvs: Segment) -> None:
    lvs.guest.sh("sysctl -qw net.ipv4.vs.expire_nodest_conn=1", netns=lvs.ns("dir1"))
    lvs.lvs([service(3, 5)])
    streams = lvs.streams(8)
    forced = lvs.lvs([service(3)], force=True)
    assert forced["lint"] == [] and forced["connections_dropped"] == 5
    found = streams.alive(8)
    assert found["rs1"] == ["alive"] * 3
    assert set(found["rs2"]) == {"ConnectionResetError"}


def test_drain_goes_on_over_runs(lvs: Segment) -> None:
    """A run that ends, or a controller that dies, does not begin the count again; a server that is wanted again comes back."""
    lvs.lvs([service(3, 5)])
    streams = lvs.streams(8)
    first = lvs.lvs([service(3)], drain_timeout=0)
    assert first["changed"] and [one["decision"] for one in first["draining"]] == ["keep"]
    second = lvs.lvs([service(3)], drain_timeout=0)
    assert not second["changed"] and second["writes"] == 0
    assert second["draining"][0]["seconds"] > first["draining"][0]["seconds"]
    back = lvs.lvs([service(3, 5)])
    assert ops(back) == ["edit_server"] and back["draining"] == []
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    again = lvs.lvs([service(3)], drain_timeout=0)
    assert again["draining"][0]["seconds"] < second["draining"][0]["seconds"], "a new drain counts from its own start"
    lvs.guest.sh("sleep 1.1")
    forced = lvs.lvs([service(3)], drain_timeout=1, on_timeout="force")
    assert forced["connections_dropped"] == 5 and f"{VIP}:8080 -r 10.66.0.102" not in "\n".join(lvs.rules())


_KILLED = """
import os, signal, time
from ansible_collections.netops.fleet.plugins.module_utils._lvs import codec, director
child = os.fork()
if child == 0:
    director.outcome(args[0], False)
    os._exit(0)
def weights():
    with codec.Ipvs() as ipvs:
        return [server.weight for service in ipvs.read().services.values() for server in service.servers.values()]
while 0 not in weights():
    time.sleep(0.05)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""


def test_drain_outlives_the_run_that_began_it(lvs: Segment) -> None:
    """Killed while it waits: weight 0 and the time since then stay; the next run goes on and ends it."""
    limits = {"tcp_fin": 1}
    lvs.lvs([service(3, 5)], timeouts=limits)
    streams = lvs.streams(8)
    lvs.guest.call(_KILLED, lvs.params([service(3)], timeouts=limits), netns=lvs.ns("dir1"))
    assert lvs.weights() == {"101": 3, "102": 0}
    assert alive(streams.alive()) == {"rs1": 3, "rs2": 5}
    next_run = lvs.lvs([service(3)], timeouts=limits, drain_timeout=0)
    assert not next_run["failed"] and next_run["writes"] == 0 and next_run["draining"][0]["seconds"] > 0
    streams.close("rs2")
    last = lvs.lvs([service(3)], timeouts=limits, drain_timeout=120, on_timeout="fail")
    assert not last["failed"] and ops(last) == ["delete_server"] and last["connections_dropped"] == 0
    assert alive(streams.alive()) == {"rs1": 3}


def test_service_in_use_is_not_deleted(lvs: Segment) -> None:
    lvs.lvs([service(3, 5), service(1, port=9090)])
    streams = lvs.streams(4)
    refused = lvs.lvs([service(1, port=9090)], drain_timeout=0, on_timeout="fail")
    assert refused["failed"] and refused["connections_at_risk"] == 4
    assert sum(alive(streams.alive()).values()) == 4
    forced = lvs.lvs([service(1, port=9090)], force=True)
    assert ops(forced) == ["delete_server", "delete_server", "delete_service"] and forced["connections_dropped"] == 4
    assert lvs.rules() == [f"-A -t {VIP}:9090 -s wrr", f"-a -t {VIP}:9090 -r 10.66.0.101:9090 -g -w 1"]


def test_services_of_others_are_left_alone(lvs: Segment) -> None:
    lvs.ipvsadm("-A", "-u", f"{VIP}:53", "-s", "rr")
    result = lvs.lvs([service(3)])
    assert result["foreign"] == [f"udp/{VIP}:53"]
    assert f"-A -u {VIP}:53 -s rr" in lvs.rules()
    purged = lvs.lvs([service(3)], purge=True)
    assert ops(purged) == ["delete_service"] and f"-A -u {VIP}:53 -s rr" not in lvs.rules()


def test_ipv6_service(lvs: Segment) -> None:
    assert not lvs.lvs([service(3, 5, family=6)])["failed"]
    assert Counter(lvs.requests(80, VIP6)) == {"rs1": 30, "rs2": 50}
    assert lvs.lvs([service(3, 5, family=6)])["writes"] == 0


def test_every_kind_of_service_is_written_as_ipvsadm_would(lvs: Segment) -> None:
    """ipvsadm's own rules, restored into a second table, are the same as what the module wrote; a second run writes nothing."""
    wanted = [
        service(3),
        {"fwmark": 7, "persistence": 60, "netmask": 24, "servers": [
            {"address": "10.66.0.101", "forward": "tunnel", "tunnel": {"type": "gue", "port": 6080}}]},
        {"fwmark": 7, "family": "ipv6", "servers": [{"address": "fd66::101"}]},
        {"address": VIP, "port": 53, "protocol": "udp", "flags": ["one-packet"], "servers": [
            {"address": "10.66.0.101", "forward": "nat", "port": 5353}]},
        {"address": VIP, "port": 5060, "protocol": "udp", "persistence": 60, "persistence_engine": "sip"},
        {"address": VIP, "port": 99, "protocol": "sctp", "servers": [{"address": "10.66.0.101"}]},
        service(1, family=6, scheduler="mh", flags=["mh-fallback", "mh-port"], persistence=300, netmask=64),
        {"address": VIP, "port": 0, "persistence": 120, "servers": [{"address": "10.66.0.102"}]},
    ]  # fmt: skip
    lvs.guest.sh("sysctl -qw net.ipv4.vs.expire_quiescent_template=1", netns=lvs.ns("dir1"))
    result = lvs.lvs(wanted)
    assert not result["failed"], result["msg"]
    assert lvs.lvs(wanted)["writes"] == 0
    rules = lvs.rules()
    assert f"-A -t [{VIP6}]:8080 -s mh -p 300 -M 64 -b mh-fallback,mh-port" in rules
    assert "-a -f 7 -r 10.66.0.101:0 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum" in rules
    assert f"-A -u {VIP}:5060 -s wrr -p 60 --pe sip" in rules
    assert f"-a -u {VIP}:53 -r 10.66.0.101:5353 -m -w 1" in rules
    lvs.ipvsadm("-C")
    lvs.guest.run(["ipvsadm", "--restore"], lvs.ns("dir1"), stdin="\n".join(rules) + "\n")
    assert lvs.lvs(wanted)["writes"] == 0, "what ipvsadm wrote reads as what was wanted"


def test_drift_is_repaired(lvs: Segment) -> None:
    lvs.lvs([service(3, 5)])
    lvs.ipvsadm("-e", "-t", f"{VIP}:8080", "-r", "10.66.0.101:8080", "-g", "-w", "9")
    lvs.ipvsadm("-d", "-t", f"{VIP}:8080", "-r", "10.66.0.102:8080")
    result = lvs.lvs([service(3, 5)])
    assert ops(result) == ["add_server", "edit_server"]
    assert f"-a -t {VIP}:8080 -r 10.66.0.101:8080 -g -w 3" in lvs.rules()


@pytest.mark.parametrize("scheduler", ["mh", "sh"])
def test_weight_zero_without_fallback_refuses_clients(lvs: Segment, scheduler: str) -> None:
    """Why the lint rule is an error: some of twelve new connections are refused, none with the flag."""
    flags = [f"{scheduler}-port"]
    lvs.lvs([service(1, 1, 1, scheduler=scheduler, flags=flags)])
    refused = lvs.lvs([service(0, 0, 1, scheduler=scheduler, flags=flags)])
    assert refused["failed"] and "[fallback-missing]" in refused["msg"] and refused["writes"] == 0
    lvs.lvs([service(0, 0, 1, scheduler=scheduler, flags=flags)], ignore_lint=["fallback-missing"])
    assert "ConnectionRefusedError" in lvs.requests(20)
    lvs.lvs([service(0, 0, 1, scheduler=scheduler, flags=[*flags, f"{scheduler}-fallback"])])
    assert Counter(lvs.requests(20)) == {"rs3": 20}


def lint_cases(lvs: Segment) -> dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Rule → (what makes the director so, what undoes it, a service, the module's parameters)."""

    def to(address: str, **server: Any) -> dict[str, Any]:
        return service(servers=[{"address": address, **server}])

    def vs(name: str, value: int, back: int) -> tuple[str, str]:
        return f"sysctl -qw net.ipv4.vs.{name}={value}", f"sysctl -qw net.ipv4.vs.{name}={back}"

    # Commands in a namespace have mounts of their own.
    outside, hidden = "nsenter -t 1 -m", "/lib/modules/$(uname -r)"
    sync = ("ipvsadm --start-daemon master --mcast-interface eth0", "ipvsadm --stop-daemon master")
    as_it_is = ("true", "true")
    fallback: dict[str, Any] = {"scheduler": "mh", "flags": ["mh-fallback"]}
    return {
        "scheduler-missing": (*as_it_is, service(1, scheduler="nosuch"), {}),
        "fallback-missing": (*as_it_is, service(0, 1, scheduler="sh"), {}),
        "port-differs": (*as_it_is, to("10.66.0.101", port=80), {}),
        "not-on-link": ("ip route add 10.99.0.0/24 via 10.66.0.1", "ip route del 10.99.0.0/24", to("10.99.0.7"), {}),
        "weight-range": (*as_it_is, service(65536), {}),
        "thresholds": (*as_it_is, to("10.66.0.101", lower_threshold=5), {}),
        "one-packet-tcp": (*as_it_is, service(1, flags=["one-packet"]), {}),
        "family-mixed": (*as_it_is, to("fd66::101"), {}),
        "sync-mixed-family": (*sync, to("fd66::101", forward="tunnel"), {}),
        "persistence-drain": (*as_it_is, service(0, 1, persistence=60), {}),
        "port-reuse": (*vs("conn_reuse_mode", 0, 1), service(0, 1), {}),
        # The only fact that is told and not real: this kernel is newer.
        "reuse-stall": (*vs("conntrack", 1, 0), service(1), {"kernel": [5, 8]}),
        "nodest-hang": (*as_it_is, service(1), {"force": True}),
        "sloppy-tcp": (*vs("sloppy_tcp", 1, 0), service(1), {}),
        "sloppy-tcp-missing": (*as_it_is, service(1, **fallback), {}),
        "wrr-burst": (*as_it_is, service(99, 100), {}),
        "mh-resolution": (*vs("sloppy_tcp", 1, 0), service(1, 64, **fallback), {}),
        "director-serves": (*as_it_is, to(lvs.address("dir1")), {}),
        "unknown": (f"{outside} mount -t tmpfs none {hidden}", f"{outside} umount {hidden}", service(1, scheduler="fo"), {}),
    }


def test_every_lint_rule_on_a_real_kernel(lvs: Segment) -> None:
    """Each from the host's real state, alone, before any write; errors stop the run and warnings do not."""
    cases = lint_cases(lvs)
    assert set(cases) == set(lint.RULES)
    space, seen = lvs.ns("dir1"), {}
    for rule, (make, undo, wanted, params) in cases.items():
        lvs.guest.sh(make, netns=space)
        try:
            result = lvs.lvs([wanted], check=True, **params)
        finally:
            lvs.guest.sh(undo, netns=space)
        seen[rule] = ([one["id"] for one in result["lint"]], result["failed"])
        if lint.RULES[rule] == "error":
            assert f"[{rule}]" in result["msg"] and not result["changed"], result
    assert seen == {rule: ([rule], severity == "error") for rule, severity in lint.RULES.items()}
    assert lvs.rules() == []


@pytest.mark.parametrize("rule", ["thresholds", "family-mixed", "sync-mixed-family"])
def test_the_kernel_refuses_what_lint_refuses(lvs: Segment, rule: str) -> None:
    """The control: written all the same, the kernel says no, and the error names the object."""
    make, undo, wanted, _params = lint_cases(lvs)[rule]
    lvs.guest.sh(make, netns=lvs.ns("dir1"))
    try:
        result = lvs.lvs([wanted], ignore_lint=[rule])
    finally:
        lvs.guest.sh(undo, netns=lvs.ns("dir1"))
    assert result["failed"] and "the kernel refused add_server" in result["msg"], result


def test_what_the_kernel_takes_silently_is_refused(lvs: Segment) -> None:
    """ipvsadm rewrites a DR server's port without a word, and takes any weight."""
    lvs.ipvsadm("-A", "-t", f"{VIP}:80", "-s", "wrr")
    lvs.ipvsadm("-a", "-t", f"{VIP}:80", "-r", "10.66.0.101:8080", "-g", "-w", "65536")
    assert f"-a -t {VIP}:80 -r 10.66.0.101:80 -g -w 65536" in lvs.rules()
    lvs.ipvsadm("-a", "-t", f"{VIP}:80", "-r", "10.66.0.102", "-g", "-w", str((1 << 31) - 1))
    assert f"-a -t {VIP}:80 -r 10.66.0.102:80 -g -w 2147483647" in lvs.rules()
    wanted = {"address": VIP, "port": 80, "servers": [{"address": "10.66.0.101", "weight": 65536}]}
    assert "allowed are 0 to 65535" in lvs.lvs([wanted])["msg"]


def test_server_joins_when_it_has_the_wanted_version(lvs: Segment) -> None:
    lvs.guest.sh("echo v2 > /tmp/lvs/rs1.version; echo v1 > /tmp/lvs/rs2.version")
    wanted = service(3, 5, ready={"path": "/ready", "body": "v2", "timeout": 30.0})
    first = lvs.lvs([wanted])
    assert not first["failed"], first["msg"]
    assert [(one["server"], one["why"].split(":")[0]) for one in first["waiting"]] == [("10.66.0.102:8080", "wrong_body")]
    assert Counter(lvs.requests(6)) == {"rs1": 6}
    lvs.guest.sh("echo v2 > /tmp/lvs/rs2.version")
    second = lvs.lvs([wanted])
    assert ops(second) == ["add_server"] and second["waiting"] == []
    assert Counter(lvs.requests(16)) == {"rs1": 6, "rs2": 10}
    lvs.guest.sh("echo v1 > /tmp/lvs/rs2.version")
    third = lvs.lvs([wanted])
    assert third["writes"] == 0, "a server that serves is not taken out by the gate"


def test_damaged_record_is_not_guessed_over(lvs: Segment) -> None:
    lvs.lvs([service(3)])
    lvs.guest.sh(f"echo '{{' > {lvs.folder()}/table.json")
    result = lvs.lvs([service(3, 5)])
    assert result["failed"] and "table.json" in result["msg"] and "10.66.0.102" not in "".join(lvs.rules())
