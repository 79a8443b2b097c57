# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel parameters that are wrong in themselves become findings, defaults of kernels do not."""

from __future__ import annotations

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import parameters
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import sysctls

FINE = {
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_rmem": "4096 131072 6291456",
    "net.ipv4.tcp_wmem": "4096 16384 4194304",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_timestamps": "1",
    "net.ipv4.tcp_ecn": "5",
    "net.ipv4.conf.all.rp_filter": "2",
    "net.ipv4.neigh.default.gc_thresh1": "128",
    "net.ipv4.neigh.default.gc_thresh2": "512",
    "net.ipv4.neigh.default.gc_thresh3": "1024",
}


def found(**changed: str) -> list[tuple[str, str, str]]:
    values = {**FINE, **{name.replace("__", "."): value for name, value in changed.items()}}
    made = parameters.find(Facts({"sections": {"sysctls": values}}))
    return [(one.severity, one.subject, one.fix[0]) for one in made]


def test_defaults_are_fine_and_so_are_those_of_this_machine() -> None:
    assert found() == []
    assert parameters.find(Facts({"sections": {}})) == []
    assert parameters.find(Facts({"sections": {"sysctls": sysctls.read().data}})) == []


def test_what_one_number_for_a_triple_leaves_behind() -> None:
    assert found(net__ipv4__tcp_rmem="67108864 131072 33554432") == [
        ("warning", "net.ipv4.tcp_rmem", "sysctl -w net.ipv4.tcp_rmem='131072 33554432 67108864'")
    ]


def test_a_negative_time_and_a_contradiction() -> None:
    assert [one[:2] for one in found(net__ipv4__tcp_fin_timeout="-5")] == [("warning", "net.ipv4.tcp_fin_timeout")]
    assert [one[:2] for one in found(net__ipv4__tcp_timestamps="0", net__ipv4__tcp_tw_reuse="1")] == [
        ("warning", "net.ipv4.tcp_tw_reuse")
    ]
    # The kernel's own 2 (loopback only) is left alone: switching time stamps off makes it idle, not wrong.
    assert found(net__ipv4__tcp_timestamps="0") == []
    falling = found(net__ipv4__neigh__default__gc_thresh1="4096")
    assert [one[:2] for one in falling] == [("warning", "net.ipv4.neigh.default.gc_thresh1")]


def test_far_too_small() -> None:
    assert [one[:2] for one in found(net__core__somaxconn="128")] == [("info", "net.core.somaxconn")]
    assert [one[:2] for one in found(net__ipv4__tcp_wmem="4096 16384 65536")] == [("info", "net.ipv4.tcp_wmem")]
