# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsers behind the hook census, with bytes as the kernel lays them out; and with any bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import fdcensus, hook_detach, tc_filters
from ansible_collections.netops.fleet.plugins.module_utils._evidence.names_canonical import cgroup_class, iface_class
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink, rtnl


def action(kind: str, options: list[tuple[int, netlink.AttributeValue]]) -> bytes:
    return netlink.pack([(1, kind), (2, options)])


def generic(verdict: int, rest: bytes = b"") -> bytes:
    """struct tc_gen: index, capabilities, action, references, bindings."""
    return struct.pack("=IIiii", 7, 0, verdict, 1, 1) + rest


def message(kind: str, options: list[tuple[int, netlink.AttributeValue]], chain: int = 0, protocol: int = 0x0800) -> bytes:
    swapped = struct.unpack("=H", struct.pack(">H", protocol))[0]
    return rtnl.TC.pack(0, 3, 1, 0xFFFF0000, 10 << 16 | swapped) + netlink.pack([(1, kind), (2, options), (11, chain)])


GACT = {name: action("gact", [(2, generic(number))]) for number, name in tc_filters.VERDICTS.items()}
POLICE = action(
    "police", [(1, struct.pack("=IiIII", 1, 2, 0, 0, 0) + bytes(8) + struct.pack("=I", 125000)), (5, struct.pack("=i", 0))]
)
REDIRECT = action("mirred", [(2, generic(4, struct.pack("=iI", 1, 9)))])
RANDOM = action("gact", [(2, generic(0)), (3, struct.pack("=HHi", 1, 10, 2))])


@pytest.mark.parametrize(
    ("actions", "drop", "divert"),
    [
        ([GACT["drop"]], "yes", "no"),
        ([GACT["ok"]], "no", "no"),
        ([GACT["pipe"], GACT["drop"]], "yes", "no"),
        ([GACT["trap"]], "yes", "no"),
        ([POLICE], "yes", "no"),
        ([REDIRECT], "no", "yes"),
        ([RANDOM], "yes", "no"),
        ([action("csum", [(1, generic(3))])], "no", "no"),
        ([action("ct", [(1, generic(3))])], "unknown", "unknown"),
        ([action("ct", [(1, generic(3))]), GACT["drop"]], "yes", "unknown"),
        ([action("brandnew", [(2, generic(0))])], "unknown", "unknown"),
        ([b""], "unknown", "unknown"),
        ([], "no", "no"),
    ],
)
@pytest.mark.parametrize(("kind", "place"), [("flower", 3), ("matchall", 2), ("u32", 7), ("fw", 4), ("basic", 3)])
def test_actions_of_every_kind_of_filter(kind: str, place: int, actions: list[bytes], drop: str, divert: str) -> None:
    listed: list[tuple[int, netlink.AttributeValue]] = [(number + 1, body) for number, body in enumerate(actions)]
    found = tc_filters.parse_filter(message(kind, [(place, listed)]))
    assert found is not None
    assert (found["kind"], found["priority"], found["protocol"]) == (kind, 10, "ip")
    assert tc_filters.outcome(found)[:2] == (drop, divert)


def test_an_unknown_kind_of_filter_is_unknown() -> None:
    found = tc_filters.parse_filter(message("brandnew", [(3, b"1234")]))
    assert found is not None and tc_filters.outcome(found)[:2] == ("unknown", "unknown")


def test_words_of_actions() -> None:
    assert tc_filters.parse_action(POLICE)["detail"] == "rate 125000 bytes/s"
    assert tc_filters.parse_action(action("gact", [(2, generic(2 << 28 | 3))]))["verdict"] == "goto chain 3"
    statistics = netlink.pack([(1, struct.pack("=QI", 840, 10)), (3, struct.pack("=IIIII", 0, 0, 10, 0, 0))])
    counted = tc_filters.parse_action(netlink.pack([(1, "gact"), (2, [(2, generic(2))]), (4, statistics)]))
    assert (counted["packets"], counted["bytes"], counted["drops"]) == (10, 840, 10)


def test_match_digest_ignores_counters_and_actions() -> None:
    def digest(selector: bytes, hits: bytes, acts: bytes) -> str:
        found = tc_filters.parse_filter(message("u32", [(5, selector), (9, hits), (7, [(1, acts)])]))
        assert found is not None
        return str(found["match"])

    assert digest(b"port", b"hits1234", GACT["ok"]) == digest(b"port", b"hits9999", GACT["drop"])
    assert digest(b"port", b"hits1234", GACT["ok"]) != digest(b"trop", b"hits1234", GACT["ok"])


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    tc_filters.parse_qdisc(data)
    tc_filters.parse_action(data)
    found = tc_filters.parse_filter(data)
    if found is not None:
        tc_filters.outcome(found)


@given(st.sampled_from(sorted(tc_filters._LAYOUT)), st.lists(st.tuples(st.integers(1, 12), st.binary(max_size=60)), max_size=6))
def test_any_options(kind: str, options: list[tuple[int, bytes]]) -> None:
    found = tc_filters.parse_filter(message(kind, list(options)))
    if found is not None:
        assert tc_filters.outcome(found)[0] in ("yes", "no", "unknown")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("eth0", "eth0"), ("enp3s0f0np0", "enp3s0f0np0"), ("ib0", "ib0"), ("bond0.100", "bond0.100"), ("docker0", "docker0"),
        ("veth3f2a1bc", "veth*"), ("veth3f2a1bc@if5", "veth*"), ("cali1a2b3c4d5e6", "cali*"), ("lxc0123456789ab", "lxc*"),
        ("lxc_health", "lxc_health"), ("lxcbr0", "lxcbr0"), ("br-1d2e3f4a5b6c", "br-*"), ("br-ex", "br-ex"),
        ("tap3f2a-11", "tap*"), ("vnet12", "vnet*"), ("vif3.0", "vif*"), ("eni0123456789a", "eni*"),
        ("cilium_host", "cilium_host"), ("cali", "cali"),
        ("qvo0a1b2c3d-4e", "qvo*"), ("ve-build", "ve-*"), ("virbr0", "virbr0"), ("tunl0", "tunl0"), ("tun0", "tun0"),
    ],
)  # fmt: skip
def test_interface_classes(name: str, shown: str) -> None:
    assert iface_class(name) == shown


def test_cgroup_classes() -> None:
    container = "/system.slice/docker-" + "0f" * 32 + ".scope"
    assert cgroup_class(container) == "/system.slice/docker-*.scope"
    pod = "/kubepods.slice/kubepods-pod0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9.slice"
    assert cgroup_class(pod) == "/kubepods.slice/kubepods-pod*.slice"
    assert cgroup_class("/system.slice/ssh.service") == "/system.slice/ssh.service"


CONTAINER = "ab" * 32


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/ssh.service\n", "ssh.service"),
        (
            "12:pids:/system.slice/ssh.service\n1:name=systemd:/system.slice/ssh.service\n0::/system.slice/ssh.service\n",
            "ssh.service",
        ),
        ("1:name=systemd:/system.slice/docker.service\n0::/\n", "docker.service"),
        (f"0::/system.slice/docker-{CONTAINER}.scope\n", f"docker-{CONTAINER}.scope"),
        (f"4:memory:/docker/{CONTAINER}\n", CONTAINER),
        (f"0::/kubepods/besteffort/pod1234/{CONTAINER}\n", CONTAINER),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service\n", "agent.service"),
        ("0::/user.slice\n", "user.slice"),
        ("0::/\n", None),
        ("", None),
        ("nonsense\n::\n", None),
    ],
)
def test_units(cgroups: str, unit: str | None) -> None:
    assert fdcensus.unit_of(cgroups)[0] == unit


@given(st.text(max_size=100))
def test_any_cgroup_file(text: str) -> None:
    fdcensus.unit_of(text)


@pytest.mark.parametrize(
    ("unit", "cgroup", "prefix", "service"),
    [
        ("agent.service", "/system.slice/agent.service", "", "agent.service"),
        ("agent.service", "/machine/libpod-1/system.slice/agent.service", "/machine/libpod-1", "agent.service"),
        # Of a container, seen from its host: stopping the host's unit of that name would be another service.
        ("agent.service", "/machine.slice/libpod-1.scope/system.slice/agent.service", "", None),
        ("agent.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service", "", None),
        ("session-3.scope", "/user.slice/user-0.slice/session-3.scope", "", None),
        ("agent.service", "/system.slice/agent.service", None, None),
        (None, None, "", None),
    ],
)
def test_only_a_service_of_this_system_is_stopped(
    unit: str | None, cgroup: str | None, prefix: str | None, service: str | None
) -> None:
    assert hook_detach.service_of(unit, cgroup, prefix) == service


def test_printed_words_are_quoted() -> None:
    assert hook_detach.line(hook_detach.inside("a b"), ["ip", "link"]) == "ip netns exec 'a b' ip link"
    assert hook_detach.inside("/proc/7/ns/net") == ["nsenter", "--net=/proc/7/ns/net"]
