# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights from capacity, what lint finds, and keepalived's configuration: plain data in, plain data out."""

from __future__ import annotations

import shutil
import socket
import subprocess
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._lvs import keepalived, lint
from ansible_collections.netops.fleet.plugins.module_utils._lvs.model import Daemon, Table, Wrong, wanted_table
from ansible_collections.netops.fleet.plugins.module_utils._lvs.weights import Policy, reduced, weights
from ansible_collections.netops.fleet.plugins.module_utils._lvs.weights import Wrong as WrongWeights

# --- weights


def made(servers: list[dict[str, Any]], previous: dict[str, int] | None = None, **policy: Any) -> dict[str, int]:
    return {one.name: one.weight for one in weights(servers, Policy(**policy), previous)}


def nodes(*capacities: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"n{number}", "capacity": one, **more} for number, one in enumerate(capacities, 1)]


def test_the_example() -> None:
    """Servers of 3 and 5 cards: 3 and 5. Of 8 cards each: 1 and 1."""
    assert made(nodes({"gpus": 3}, {"gpus": 5})) == {"n1": 3, "n2": 5}
    assert made(nodes({"gpus": 8}, {"gpus": 8})) == {"n1": 1, "n2": 1}
    factors = {"h100": 2.5, "a100": 1.0}
    assert made(nodes({"gpus": 8, "type": "h100"}, {"gpus": 8, "type": "a100"}), factors=factors) == {"n1": 5, "n2": 2}


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1e6), min_size=1, max_size=8), st.sampled_from([1, 7, 63, 100])
)
def test_reduced_weights_keep_their_promises(shares: dict[str, float], limit: int) -> None:
    found = reduced(shares, limit)
    assert set(found) == set(shares)
    for name, weight in found.items():
        assert 0 <= weight <= limit
        assert (weight > 0) == (shares[name] > 0)
    for one in shares:
        for other in shares:
            if shares[one] >= shares[other]:
                assert found[one] >= found[other]
    if any(found.values()):
        assert reduce(gcd, found.values()) == 1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_integers_that_fit_are_kept_exactly(capacities: list[int]) -> None:
    found = made(nodes(*capacities), scheduler="mh")
    divisor = reduce(gcd, capacities) or 1
    assert list(found.values()) == [one // divisor for one in capacities]


@given(st.lists(st.floats(0.1, 1000), min_size=2, max_size=6), st.floats(0, 0.2))
def test_a_second_run_changes_nothing(capacities: list[float], hysteresis: float) -> None:
    first = made(nodes(*capacities), hysteresis=hysteresis)
    assert made(nodes(*capacities), first, hysteresis=hysteresis) == first


def test_small_moves_are_noise() -> None:
    before = {"n1": 3, "n2": 5}
    assert made(nodes(3.1, 5), before) == before
    assert made(nodes(4, 5), before) == {"n1": 4, "n2": 5}
    assert made(nodes(3, 5) + nodes(1, name="n3"), before) == {"n1": 3, "n2": 5, "n3": 1}, "a new server is no small move"


def test_missing_data_holds_the_last_weight() -> None:
    assert made(nodes(3, None), {"n1": 3, "n2": 5}) == {"n1": 3, "n2": 5}
    assert made(nodes(6, None), {"n1": 3, "n2": 5}) == {"n1": 3, "n2": 5}, "its part of the whole stays"
    assert made(nodes(None, None), {"n1": 3, "n2": 5}) == {"n1": 3, "n2": 5}
    assert made(nodes(3, {"gpus": None}), {"n1": 3, "n2": 0})["n2"] == 0
    assert made(nodes(8, 4, None)) == {"n1": 2, "n2": 1, "n3": 1}, "never seen: as the smallest"


def test_health_has_a_floor() -> None:
    assert made([{"name": "a", "capacity": 10, "health": 0.5}, {"name": "b", "capacity": 10}]) == {"a": 1, "b": 2}
    assert made([{"name": "a", "capacity": 10, "health": 0}, {"name": "b", "capacity": 10}]) == {"a": 0, "b": 1}
    assert made([{"name": "a", "capacity": 10, "health": 0}, {"name": "b", "capacity": 10}], floor=0.2) == {"a": 1, "b": 5}


def test_panic_counts_pooled_and_up() -> None:
    """Half drained, a quarter down: only a quarter serves, so the down one stays rather than overload the last."""
    pool = [
        {"name": "a", "capacity": 1, "state": "drain"},
        {"name": "b", "capacity": 1, "state": "drain"},
        {"name": "c", "capacity": 1, "state": "down"},
        {"name": "d", "capacity": 1},
    ]
    assert made(pool) == {"a": 0, "b": 0, "c": 0, "d": 1}
    assert made(pool, panic=0.5) == {"a": 0, "b": 0, "c": 1, "d": 1}
    assert made(pool, panic=0.25) == {"a": 0, "b": 0, "c": 0, "d": 1}


def test_not_too_much_is_drained_at_once() -> None:
    pool = [{"name": name, "capacity": 1, "state": "drain"} for name in "abcd"]
    found = weights(pool, Policy(drain_at_once=0.5))
    assert [one.weight for one in found] == [0, 0, 1, 1]
    assert "postponed" in found[2].why


def test_slow_start() -> None:
    pool = nodes(10, 10)
    for since, share in ((0, 0.1), (30, 0.55), (60, 1.0), (600, 1.0)):
        found = made([{**pool[0], "since": since}, pool[1]], slow_start=60.0, hysteresis=0.0)
        assert found["n1"] / found["n2"] == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("servers", "policy"),
    [
        ([{"capacity": 1}], {}),
        (nodes(1) + nodes(1), {}),
        (nodes(-1), {}),
        (nodes(float("nan")), {}),
        (nodes(True), {}),
        (nodes({"gpus": 1, "type": "x"}), {"factors": {"y": 1.0}}),
        (nodes(1, state="asleep"), {}),
        (nodes(1, health=2), {}),
        (nodes(1), {"panic": 2}),
    ],
)
def test_unusable_input_is_refused(servers: list[dict[str, Any]], policy: dict[str, Any]) -> None:
    with pytest.raises(WrongWeights):
        weights(servers, Policy(**policy))


# --- lint: every rule triggered once, and silence for a good table

VS = {
    "expire_nodest_conn": 1,
    "expire_quiescent_template": 1,
    "conn_reuse_mode": 1,
    "sloppy_tcp": 0,
    "conntrack": 0,
    "backup_only": 0,
}


def host(**more: Any) -> lint.Host:
    base: dict[str, Any] = {
        "kernel": (6, 1),
        "sysctls": dict(VS),
        "schedulers": {"wrr": True, "mh": True, "sh": True},
        "routes": {"192.0.2.1": lint.Route(), "192.0.2.2": lint.Route(), "2001:db8::1": lint.Route()},
    }
    return lint.Host(**{**base, **more})


def wish(**more: Any) -> Table:
    entry = {"address": "192.0.2.80", "port": 80, "servers": [{"address": "192.0.2.1", "weight": 3}, {"address": "192.0.2.2"}]}
    return wanted_table([{**entry, **more}])


def ids(wanted: Table, facts: lint.Host, present: Table | None = None, quiet: bool = False, force: bool = False) -> list[str]:
    quieting = set(wanted.services) if quiet else set()
    return [one.id for one in lint.check(wanted, present or Table(), facts, quieting, force)]


def one_server(**server: Any) -> Table:
    return wish(servers=[{"address": "192.0.2.1", **server}])


CASES: dict[str, tuple[Table, lint.Host, dict[str, Any]]] = {
    "scheduler-missing": (wish(), host(schedulers={"wrr": False}), {}),
    "fallback-missing": (wish(scheduler="sh"), host(), {"quiet": True}),
    "port-differs": (one_server(port=8080), host(), {}),
    "not-on-link": (one_server(), host(routes={"192.0.2.1": lint.Route("192.0.2.254")}), {}),
    "weight-range": (one_server(weight=70000), host(), {}),
    "thresholds": (one_server(upper_threshold=5, lower_threshold=6), host(), {}),
    "one-packet-tcp": (wish(flags=["one-packet"]), host(), {}),
    "family-mixed": (wish(servers=[{"address": "2001:db8::1"}]), host(), {}),
    "sync-mixed-family": (
        wish(servers=[{"address": "2001:db8::1", "forward": "tunnel"}]),
        host(),
        {"present": Table(daemons=(Daemon("master", "eth0", 1),))},
    ),
    "persistence-drain": (wish(persistence=60), host(sysctls={**VS, "expire_quiescent_template": 0}), {"quiet": True}),
    "port-reuse": (wish(), host(sysctls={**VS, "conn_reuse_mode": 0}), {"quiet": True}),
    "reuse-stall": (wish(), host(kernel=(5, 4), sysctls={**VS, "conntrack": 1}), {}),
    "nodest-hang": (wish(), host(sysctls={**VS, "expire_nodest_conn": 0}), {"force": True}),
    "sloppy-tcp": (wish(), host(sysctls={**VS, "sloppy_tcp": 1}), {}),
    "sloppy-tcp-missing": (wish(scheduler="mh", flags=["mh-fallback"]), host(), {}),
    "wrr-burst": (wish(servers=[{"address": "192.0.2.1", "weight": 99}, {"address": "192.0.2.2", "weight": 100}]), host(), {}),
    "mh-resolution": (
        wish(scheduler="mh", flags=["mh-fallback"], servers=[{"address": "192.0.2.1", "weight": 64}, {"address": "192.0.2.2"}]),
        host(sysctls={**VS, "sloppy_tcp": 1}),
        {},
    ),
    "director-serves": (one_server(), host(routes={"192.0.2.1": lint.Route(local=True)}), {}),
    "unknown": (one_server(), host(routes={"192.0.2.1": None}), {}),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(lint.RULES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_rule_is_triggered_and_alone(name: str) -> None:
    wanted, facts, more = CASES[name]
    assert ids(wanted, facts, **more) == [name]
    found = lint.check(
        wanted,
        more.get("present") or Table(),
        facts,
        set(wanted.services) if more.get("quiet") else set(),
        bool(more.get("force")),
    )
    assert found[0].severity in ("error", "warning") and found[0].fix and found[0].text


@pytest.mark.parametrize("more", [{}, {"quiet": True}, {"force": True}])
def test_a_good_table_has_no_lint(more: dict[str, Any]) -> None:
    assert ids(wish(), host(), **more) == []


def test_new_kernels_do_not_stall() -> None:
    assert ids(wish(), host(kernel=(5, 9), sysctls={**VS, "conntrack": 1})) == []


# --- keepalived's configuration


def director(**more: Any) -> dict[str, Any]:
    return {
        "router_id": "dir1",
        "folder": "/var/lib/netops.fleet/lvs/weights",
        "ramp": "/usr/local/libexec/netops-lvs-ramp 60",
        "vrrp": [
            {
                "name": "VI_1",
                "interface": "lo",
                "id": 51,
                "priority": 110,
                "advertise": 0.2,
                "source": "192.0.2.3",
                "peers": ["192.0.2.4"],
                "addresses": ["192.0.2.80/32", "2001:db8::80/128"],
            }
        ],
        "sync": {"interface": "lo", "instance": "VI_1", "id": 1},
        "timeouts": {"tcp": 3600},
        "services": [
            {
                "address": "192.0.2.80",
                "port": 8080,
                "scheduler": "mh",
                "flags": ["mh-fallback", "mh-port"],
                "check": {"type": "http", "path": "/ready", "body": "v2"},
                "servers": [{"address": "192.0.2.1", "weight": 3, "upper_threshold": 9, "lower_threshold": 5}],
            },
            {"fwmark": 7, "persistence": 60, "netmask": 24, "check": {"type": "tcp", "port": 80},
             "servers": [{"address": "192.0.2.1"}]},
            {"address": "2001:db8::80", "port": 8080, "quorum": 1, "servers": [{"address": "2001:db8::1"}]},
            {"address": "192.0.2.80", "port": 53, "protocol": "udp", "flags": ["one-packet"], "check": {"type": "none"},
             "servers": [{"address": "192.0.2.1", "forward": "nat"}]},
            {"address": "192.0.2.80", "port": 5060, "protocol": "udp", "persistence": 60, "persistence_engine": "sip",
             "servers": [{"address": "192.0.2.1", "forward": "tunnel", "tunnel": {"type": "gue", "port": 6080}}]},
            {"address": "192.0.2.80", "port": 9999, "protocol": "sctp",
             "servers": [{"address": "192.0.2.1", "forward": "tunnel", "tunnel": {"type": "gre", "checksum": True}}]},
        ],
        **more,
    }  # fmt: skip


def test_keepalived_takes_the_configuration(tmp_path: Path) -> None:
    """keepalived's own check says nothing; with a word it does not know it does."""
    tool = shutil.which("keepalived", path="/usr/sbin:/usr/bin")
    assert tool, "keepalived is not installed: make test installs it"
    weights_folder = tmp_path / "weights"
    weights_folder.mkdir()
    link = next(name for _index, name in socket.if_nameindex() if name != "lo")
    text = keepalived.configuration(director(folder=str(weights_folder), ramp="/bin/true 60"))
    text = text.replace("interface lo", f"interface {link}").replace("lvs_sync_daemon lo", f"lvs_sync_daemon {link}")
    path = tmp_path / "keepalived.conf"
    path.write_text(text)
    for word in text.split():
        if str(weights_folder) in word:
            Path(word.strip('"')).write_text("0\n")
    good = subprocess.run([tool, "-t", "-f", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert (good.returncode, good.stdout + good.stderr) == (0, "")
    path.write_text(text.replace("alpha", "alphabet"))
    bad = subprocess.run([tool, "-t", "-f", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert bad.returncode != 0 and "alphabet" in bad.stdout + bad.stderr


def test_weights_are_not_in_the_configuration() -> None:
    """So that a change of weight is no reload."""
    one = keepalived.configuration(director())
    entry = director()
    entry["services"][0]["servers"][0]["weight"] = 7
    assert keepalived.configuration(entry) == one


def test_a_leaving_server_is_kept_in_the_configuration() -> None:
    """With its service's check; of a service that leaves too, without one."""
    entry = director()
    base = keepalived.configuration(entry)
    first = entry["services"][0]
    gone = {"address": "192.0.2.9", "port": first["port"], "weight": 0}
    other = {"address": "192.0.2.99", "port": 81, "servers": [{"address": "192.0.2.9", "weight": 0}]}
    plain = {name: value for name, value in first.items() if name in ("address", "port", "protocol", "fwmark")}
    entry["leaving"] = [{**plain, "servers": [gone]}, other]
    text = keepalived.configuration(entry)
    assert text.count("real_server ") == base.count("real_server ") + 2
    assert text.count("HTTP_GET") == base.count("HTTP_GET") + 1
    assert text.count("virtual_server ") == base.count("virtual_server ") + 1
    entry["leaving"] = []
    assert keepalived.configuration(entry) == base


@pytest.mark.parametrize("text", ['x"\n}', "a\nb", "{", "}", "#", "!x", "$x", "a\\b"])
def test_no_value_escapes_its_place(text: str) -> None:
    for broken in (
        director(router_id=text),
        director(ramp=text),
        director(
            services=[
                {
                    "address": "192.0.2.80",
                    "port": 80,
                    "check": {"type": "http", "path": text},
                    "servers": [{"address": "192.0.2.1"}],
                }
            ]
        ),
        director(
            services=[
                {
                    "address": "192.0.2.80",
                    "port": 80,
                    "check": {"type": "http", "body": text},
                    "servers": [{"address": "192.0.2.1"}],
                }
            ]
        ),
        director(vrrp=[{"name": text, "interface": "lo", "id": 1, "addresses": ["192.0.2.80/32"]}]),
    ):
        with pytest.raises(Wrong):
            keepalived.configuration(broken)


def test_servers_of_a_service_forward_alike() -> None:
    entry = {
        "address": "192.0.2.80",
        "port": 80,
        "servers": [{"address": "192.0.2.1"}, {"address": "192.0.2.2", "forward": "nat"}],
    }
    with pytest.raises(Wrong, match="different ways of forwarding"):
        keepalived.configuration(director(services=[entry]))
