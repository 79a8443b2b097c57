# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual services without a kernel: attributes there and back, the plan's promises, drains, weights kept by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink
from ansible_collections.netops.fleet.plugins.module_utils._lvs import codec, drain, plan, track
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import (
    FORWARDS,
    Server,
    ServerKey,
    Service,
    ServiceKey,
    Table,
    Timeouts,
    Wrong,
    entry_of,
    parse_key,
    wanted_service,
    wanted_table,
)

# --- strategies

v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)
ports = st.integers(0, 65535)


@st.composite
def service_keys(draw: st.DrawFn) -> ServiceKey:
    family = draw(st.sampled_from([4, 6]))
    if draw(st.booleans()):
        return ServiceKey(family, "", "", 0, draw(st.integers(1, 2**32 - 1)))
    return ServiceKey(family, draw(st.sampled_from(["tcp", "udp", "sctp"])), draw(v4 if family == 4 else v6), draw(ports), 0)


@st.composite
def servers(draw: st.DrawFn, counted: bool = False) -> Server:
    forward = draw(st.sampled_from(FORWARDS))
    tunnels: dict[str, Any] = {}
    if forward == "tunnel":
        tunnels = {
            "tunnel": draw(st.sampled_from(["ipip", "gue", "gre"])),
            "tunnel_port": draw(ports),
            "tunnel_flags": draw(ports),
        }
    counts = draw(st.tuples(*[st.integers(0, 50)] * 3)) if counted else (0, 0, 0)
    return Server(
        ServerKey(draw(st.one_of(v4, v6)), draw(ports)),
        forward,
        draw(st.integers(0, 65535)),
        draw(st.integers(0, 2**31 - 1)),
        draw(st.integers(0, 2**31 - 1)),
        active=counts[0],
        inactive=counts[1],
        persistent=counts[2],
        **tunnels,
    )


@st.composite
def services(draw: st.DrawFn) -> Service:
    key = draw(service_keys())
    return Service(
        key,
        draw(st.sampled_from(["wrr", "wlc", "mh", "sh", "rr"])),
        draw(st.sampled_from([0, 4, 8, 16, 24, 32, 60])),
        draw(st.integers(0, 86400)),
        draw(st.integers(1, 128 if key.family == 6 else 32)),
        draw(st.sampled_from(["", "sip"])),
    )


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Small tables from a small world, so that two of them overlap."""
    world = [ServiceKey(4, "tcp", f"192.0.2.{n}", 80, 0) for n in (1, 2)] + [ServiceKey(6, "", "", 0, 7)]
    found = {}
    for key in world:
        if draw(st.booleans()):
            inside = {}
            for number in draw(st.sets(st.integers(1, 4))):
                server_key = ServerKey(f"198.51.100.{number}", 80)
                inside[server_key] = Server(
                    server_key,
                    draw(st.sampled_from(["dr", "nat"])),
                    draw(st.integers(0, 3)),
                    active=draw(st.integers(0, 2)),
                    inactive=draw(st.integers(0, 1)),
                )
            found[key] = Service(key, draw(st.sampled_from(["wrr", "mh"])), draw(st.sampled_from([0, 8])), servers=inside)
    return Table(found, Timeouts(900, 120, 300))


# --- codec


@given(services())
def test_service_there_and_back(service: Service) -> None:
    assert codec.read_service(codec.service_message(codec.NEW_SERVICE, service)) == service


@given(servers(), service_keys())
def test_server_there_and_back(server: Server, key: ServiceKey) -> None:
    assert codec.read_server(codec.server_message(codec.NEW_DEST, key, server), key) == server


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**31))
def test_timeouts_there_and_back(tcp: int, fin: int, udp: int) -> None:
    assert codec.read_timeouts(codec.timeouts_message(Timeouts(tcp, fin, udp))) == Timeouts(tcp, fin, udp)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (
        codec.read_service,
        codec.read_daemon,
        lambda body: codec.read_server(body, ServiceKey(4, "tcp", "192.0.2.1", 80, 0)),
    ):
        try:
            read(data)
        except codec.Unreadable:
            pass


@settings(max_examples=300)
@given(services(), servers(), st.data())
def test_damaged_answers_are_read_or_refused(service: Service, server: Server, data: st.DataObject) -> None:
    """A whole message with bytes changed or cut off: a value or Unreadable, never another error."""
    for message, read in (
        (codec.service_message(codec.NEW_SERVICE, service), codec.read_service),
        (codec.server_message(codec.NEW_DEST, service.key, server), lambda body: codec.read_server(body, service.key)),
    ):
        broken = bytearray(message[: data.draw(st.integers(0, len(message)))])
        for _ in range(data.draw(st.integers(0, 4))):
            if broken:
                broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        try:
            read(bytes(broken))  # type: ignore[operator]
        except codec.Unreadable:
            pass


def test_known_bytes_of_the_kernel() -> None:
    """The masks that the kernel wants: dotted in network order for IPv4, the prefix length in the machine's order for IPv6."""
    four = codec.service_message(codec.NEW_SERVICE, Service(ServiceKey(4, "tcp", "192.0.2.1", 80, 0), "wrr", netmask=24))
    inner = netlink.attributes(netlink.attributes(four, 4)[1])
    assert inner[9] == b"\xff\xff\xff\x00"
    assert inner[4] == b"\x00\x50" and inner[3] == bytes([192, 0, 2, 1]) + bytes(12)
    six = codec.service_message(codec.NEW_SERVICE, Service(ServiceKey(6, "", "", 0, 9), "wrr", netmask=64))
    assert netlink.number(netlink.attributes(netlink.attributes(six, 4)[1])[9]) == 64


@given(service_keys())
def test_names_of_services_are_read_back(key: ServiceKey) -> None:
    assert parse_key(str(key)) == key


@given(st.text(max_size=40))
def test_other_names_are_refused(text: str) -> None:
    try:
        key = parse_key(text)
    except Wrong:
        return
    assert parse_key(str(key)) == key


# --- plan


def carry_out(table: Table, changes: list[plan.Change]) -> Table:
    return plan.foresee(table, changes)


RULES = plan.Rules(purge=True, timeout=0.0)


@given(tables(), tables())
def test_a_wanted_state_is_reached_and_stays(present: Table, wanted: Table) -> None:
    """After the changes nothing is due, but servers in use that still drain at weight 0."""
    made = plan.make(present, wanted, RULES, {})
    after = carry_out(present, made.changes)
    assert plan.make(after, wanted, RULES, {}).changes == []
    for key, service in wanted.services.items():
        for server_key, server in service.servers.items():
            assert after.services[key].servers[server_key].settings() == server.settings()
        for server_key in set(after.services[key].servers) - set(service.servers):
            left = after.services[key].servers[server_key]
            assert left.weight == 0 and left.connections > 0


@given(tables(), tables())
def test_order_adds_before_it_takes(present: Table, wanted: Table) -> None:
    ranks = [plan.ORDER.index(change.op) for change in plan.make(present, wanted, RULES, {}).changes]
    assert ranks == sorted(ranks)


@given(tables(), tables(), st.booleans())
def test_nothing_in_use_is_deleted_unless_forced(present: Table, wanted: Table, force: bool) -> None:
    made = plan.make(present, wanted, replace(RULES, force=force), {})
    quieted = {change.name for change in made.of("drain_server")}
    for change in made.of("delete_server"):
        assert change.service is not None and change.server is not None
        there = present.services[change.service.key].servers[change.server.key]
        assert force or there.connections == 0
        assert there.weight == 0 or change.name in quieted, "weight 0 comes first"
    for change in made.of("delete_service"):
        assert change.service is not None
        gone = {one.name for one in made.of("delete_server")}
        assert all(f"{change.service.key} {key}" in gone for key in present.services[change.service.key].servers)


@given(tables(), tables())
def test_only_what_differs_is_written(present: Table, wanted: Table) -> None:
    made = plan.make(present, wanted, RULES, {})
    assert all(change.before != change.after for change in made.changes)
    assert len({(change.op, change.name) for change in made.changes}) == len(made.changes)
    assert plan.make(wanted, wanted, RULES, {}).changes == []


@given(tables(), tables())
def test_foreign_services_are_not_touched(present: Table, wanted: Table) -> None:
    made = plan.make(present, wanted, plan.Rules(timeout=0.0), {})
    assert set(made.foreign) == set(present.services) - set(wanted.services)
    assert not any(change.service is not None and change.service.key in made.foreign for change in made.changes)


@given(tables(), tables())
def test_kept_weights_are_kept(present: Table, wanted: Table) -> None:
    made = plan.make(present, wanted, replace(RULES, keep_weights=True), {})
    for change in made.of("edit_server"):
        assert change.before is not None and change.after is not None
        assert change.before["weight"] == change.after["weight"]


def table(*weights: int, active: int = 0) -> Table:
    key = ServiceKey(4, "tcp", "192.0.2.80", 8080, 0)
    inside = {}
    for number, weight in enumerate(weights, 1):
        server_key = ServerKey(f"192.0.2.{number}", 8080)
        inside[server_key] = Server(server_key, weight=weight, active=active)
    return Table({key: Service(key, "wrr", servers=inside)})


def test_gate_holds_only_who_would_join() -> None:
    wanted = table(3, 5, 2)
    key = next(iter(wanted.services))
    unready = [(key, server) for server in wanted.services[key].servers]
    weights = {
        server.address: found.weight for server, found in plan.gate(table(3, 0), wanted, unready).services[key].servers.items()
    }
    assert weights == {"192.0.2.1": 3, "192.0.2.2": 0}


# --- drain


@given(st.integers(0, 5), st.floats(0, 100), st.floats(0, 100), st.sampled_from(drain.ON_TIMEOUT), st.booleans())
def test_drain_decisions(connections: int, age: float, timeout: float, on_timeout: str, force: bool) -> None:
    decision = drain.decide(connections, age, timeout, on_timeout, force)
    assert decision in drain.DECISIONS
    assert (decision == "delete") == (connections == 0)
    if connections and not force:
        assert (decision == "wait") == (age < timeout)
    if decision == "force":
        assert force or on_timeout == "force"


@pytest.mark.parametrize(("weight", "decision"), [(0, "force"), (5, "wait")])
def test_only_time_without_weight_counts(weight: int, decision: str) -> None:
    """A run that was killed between its record and its write left a time behind, and a server that still takes connections."""
    present = table(3, weight, active=2)
    rules = plan.Rules(timeout=60, on_timeout="force")
    key = next(iter(present.services))
    made = plan.make(present, table(3), rules, {f"{key} 192.0.2.2:8080": 3600.0})
    assert [one.decision for one in made.leaving] == [decision]
    assert bool(made.of("delete_server")) is (decision == "force")


@given(tables(), st.sets(st.integers(1, 4)), st.floats(0, 1))
def test_no_more_is_drained_than_allowed(wanted: Table, numbers: set[int], at_once: float) -> None:
    drained = {f"198.51.100.{number}" for number in numbers}
    over = {said.rsplit(":", 1)[0] for said in drain.over_budget(wanted, drained, at_once)}
    for key, service in wanted.services.items():
        kept = sum(server.weight for name, server in service.servers.items() if name.address not in drained)
        total = sum(server.weight for server in service.servers.values())
        assert (str(key) in over) is (kept < (1 - at_once) * total - 1e-6) or abs(kept - (1 - at_once) * total) < 1e-5


def test_drains_are_remembered_by_name() -> None:
    first, record = drain.ages({}, ["a"], 100.0)
    assert first == {"a": 0.0}
    second, record = drain.ages(record, ["a", "b"], 130.0)
    assert second == {"a": 30.0, "b": 0.0}
    assert drain.ages(record, ["b"], 140.0) == ({"b": 10.0}, {"b": 130.0})
    assert drain.ages(record, ["a"], 50.0)[0] == {"a": 0.0}, "a clock that was set back never ends a drain early"


def test_closed_connections_count_unless_told_otherwise() -> None:
    server = Server(ServerKey("192.0.2.1", 80), active=0, inactive=4)
    assert drain.remaining(server) == 4 and drain.remaining(server, "active") == 0


# --- what is wanted


@given(services(), st.lists(servers(), max_size=3, unique_by=lambda one: one.key))
def test_what_is_there_can_be_wanted(service: Service, inside: list[Server]) -> None:
    whole = 128 if service.key.family == 6 else 32
    port = service.key.port if service.persistence else max(1, service.key.port)
    key = service.key if service.key.fwmark else service.key._replace(port=port)
    there = replace(
        service,
        key=key,
        netmask=service.netmask if service.persistence else whole,
        servers={
            one.key: replace(
                one, forward="nat" if one.forward in ("local", "bypass") else one.forward, tunnel_flags=one.tunnel_flags & 1
            )
            for one in sorted(inside, key=lambda one: one.key)
        },
    )
    assert wanted_service(entry_of(there)) == there


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"port": 80}, "neither address nor fwmark"),
        ({"address": "director", "port": 80}, "no IP address"),
        ({"address": "192.0.2.1"}, "no number"),
        ({"address": "192.0.2.1", "port": 0}, "allowed are 1 to 65535"),
        ({"address": "192.0.2.1", "port": 70000}, "out of range"),
        ({"address": "192.0.2.1", "port": 80, "fwmark": 3}, "one or the other"),
        ({"address": "192.0.2.1", "port": 80, "flags": ["mh-port"]}, "belongs to scheduler mh"),
        ({"address": "192.0.2.1", "port": 80, "scheduler": "w r r"}, "no scheduler"),
        ({"address": "192.0.2.1", "port": 80, "protocol": "icmp"}, "allowed are tcp, udp, sctp"),
        (
            {"address": "192.0.2.1", "port": 80, "servers": [{"address": "192.0.2.2", "weight": 1 << 31}]},
            "allowed are 0 to 2147483647",
        ),
        ({"address": "192.0.2.1", "port": 80, "servers": [{"address": "192.0.2.2", "weight": True}]}, "no number"),
        ({"address": "192.0.2.1", "port": 80, "servers": [{"address": "192.0.2.2"}, {"address": "192.0.2.2"}]}, "given twice"),
        (
            {"address": "192.0.2.1", "port": 80, "servers": [{"address": "192.0.2.2", "forward": "magic"}]},
            "allowed are dr, tunnel",
        ),
    ],
)
def test_impossible_wishes_are_refused(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(Wrong, match=said):
        wanted_table([entry])


def test_weight_zero_can_be_wanted() -> None:
    service = next(
        iter(
            wanted_table(
                [{"address": "192.0.2.1", "port": 80, "servers": [{"address": "192.0.2.2", "weight": 0}]}]
            ).services.values()
        )
    )
    assert [server.weight for server in service.servers.values()] == [0]


# --- files that keepalived tracks


def test_weights_in_files(tmp_path: Any) -> None:
    folder = str(tmp_path / "weights")
    assert [one["after"] for one in track.write(folder, table(3, 0))] == [{"weight": 3}, {"weight": 0}]
    assert {path.name: path.read_text() for path in (tmp_path / "weights").iterdir() if path.suffix != ".target"} == {
        "tcp_192.0.2.80_8080__192.0.2.1_8080": "2\n",
        "tcp_192.0.2.80_8080__192.0.2.2_8080": "-1\n",
    }
    assert track.due(folder, table(3, 0)) == [] and track.write(folder, table(3, 0)) == []
    assert [one["before"] for one in track.due(folder, table(3, 4))] == [{"weight": 0}]


def test_a_slow_start_gets_a_new_goal_and_a_drain_at_once(tmp_path: Any) -> None:
    folder = str(tmp_path / "weights")
    track.write(folder, table(9))
    path = tmp_path / "weights" / "tcp_192.0.2.80_8080__192.0.2.1_8080"
    path.write_text("0\n")
    path.with_name(path.name + ".ramp").write_text("down\n")
    assert track.due(folder, table(9)) == []
    track.write(folder, table(12))
    assert path.read_text() == "0\n" and path.with_name(path.name + ".target").read_text() == "11\n"
    track.write(folder, table(0))
    assert path.read_text() == "-1\n"
    path.with_name(path.name + ".ramp").write_text("999999999\n")
    track.write(folder, table(12))
    assert path.read_text() == "11\n", "a note of a process that is gone holds nothing back"


def test_a_server_that_leaves_stays_known_until_it_is_empty(tmp_path: Any) -> None:
    """Only servers with a file were keepalived's; a file goes when keepalived no longer has its server."""
    folder = str(tmp_path / "weights")
    track.write(folder, table(3, 5))
    present, wanted = table(3, 5, 7), table(3)
    key = next(iter(wanted.services))
    ours = track.told(folder, present, wanted)
    assert [str(name) for name in ours.services[key].servers] == ["192.0.2.1:8080", "192.0.2.2:8080"]
    left = track.leaving(ours, wanted)
    assert [(str(name), one.weight) for name, one in left.services[key].servers.items()] == [("192.0.2.2:8080", 0)]
    both = track.joined(wanted, left)
    assert [one["after"] for one in track.write(folder, both)] == [{"weight": 0}]
    assert track.without(left, []) == left and track.without(left, [f"{key} 192.0.2.2:8080"]).services == {}
    track.clean(folder, both)
    assert len(list((tmp_path / "weights").iterdir())) == 4
    track.clean(folder, wanted)
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == [
        "tcp_192.0.2.80_8080__192.0.2.1_8080",
        "tcp_192.0.2.80_8080__192.0.2.1_8080.target",
    ]
    nobody = Table({})
    gone = track.leaving(track.told(folder, present, nobody), nobody)
    assert [str(name) for name in gone.services[key].servers] == ["192.0.2.1:8080"], "of a service that leaves"


def test_drift_is_told_apart_from_a_failed_check() -> None:
    wanted = table(3, 5, 2)
    key = next(iter(wanted.services))
    now = table(9, 0)
    drifted, down = track.drift(now, wanted)
    assert [(one["subject"], one["text"]) for one in drifted] == [(f"{key} 192.0.2.1:8080", "weight 9 instead of 3")]
    assert down == [f"{key} 192.0.2.2:8080", f"{key} 192.0.2.3:8080"]
    assert track.drift(wanted, wanted) == ([], [])
    assert [one["text"] for one in track.drift(table(3, 5, 2, 1), wanted)[0]] == ["is in the kernel, but not wanted"]
    assert [one["text"] for one in track.drift(Table(), wanted)[0]] == ["is not in the kernel"]
