# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same address on two hosts of the fleet: what is told, and what is meant to be shared."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.duplicates import Duplicates
from tests.unit.hosts import healthy, link


def host(address: str, mac: str, seen: dict[str, str] | None = None, on: str = "eth0") -> dict[str, Any]:
    return healthy(
        links=[link("lo", index=1, physical=False), link(mac=mac)],
        addresses=[{"link": on, "family": 4, "address": address, "prefix": 24, "scope": "global", "flags": []}],
        neighbours=[
            {"family": 4, "dev": "eth0", "address": one, "mac": other, "state": "reachable"}
            for one, other in (seen or {}).items()
        ],
    )


def told(fleet: dict[str, dict[str, Any]]) -> dict[str, list[tuple[str, str, str]]]:
    doubles = Duplicates()
    for name, evidence in fleet.items():
        doubles.count(name, evidence)
    found = {
        name: [(one.id, one.grade, one.subject) for one in doubles.findings(name, evidence)] for name, evidence in fleet.items()
    }
    return {name: some for name, some in found.items() if some}


A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


def test_one_address_on_two_hosts() -> None:
    fleet = {"a": host("192.0.2.1", A), "b": host("192.0.2.1", B), "c": host("192.0.2.3", C)}
    assert told(fleet) == {name: [("address-duplicate", "likely", "192.0.2.1")] for name in ("a", "b")}
    fleet["c"] = host("192.0.2.3", C, {"192.0.2.1": A})
    fleet["d"] = host("192.0.2.4", "02:00:00:00:00:0d", {"192.0.2.1": B})
    assert told(fleet) == {name: [("address-duplicate", "proven", "192.0.2.1")] for name in ("a", "b")}


def test_a_device_outside_the_fleet_has_the_address_too() -> None:
    fleet = {
        "a": host("192.0.2.1", A),
        "b": host("192.0.2.2", B, {"192.0.2.1": A}),
        "c": host("192.0.2.3", C, {"192.0.2.1": "02:ff:ff:ff:ff:ff"}),
    }
    assert told(fleet) == {"a": [("address-duplicate", "proven", "192.0.2.1")]}


def test_a_switch_that_answers_for_everybody_is_no_duplicate() -> None:
    switch = "02:ff:ff:ff:ff:ff"
    fleet = {
        "a": host("192.0.2.1", A),
        "b": host("192.0.2.2", B, {"192.0.2.1": switch}),
        "c": host("192.0.2.3", C, {"192.0.2.1": switch}),
    }
    assert told(fleet) == {}


def test_virtual_addresses_on_lo_and_macs_of_routers_are_meant_to_be_shared() -> None:
    shared = "00:00:5e:00:01:07"
    fleet = {"a": host("192.0.2.80", A, on="lo"), "b": host("192.0.2.80", B, on="lo")}
    assert told(fleet) == {}
    assert told({"a": host("192.0.2.1", shared), "b": host("192.0.2.2", shared)}) == {}


def test_one_mac_on_two_hosts() -> None:
    assert told({"a": host("192.0.2.1", A), "b": host("192.0.2.2", A)}) == {
        name: [("mac-duplicate", "proven", f"{A} on eth0")] for name in ("a", "b")
    }
    assert told({"a": host("192.0.2.1", A), "b": host("198.51.100.2", A)})["a"] == [("mac-duplicate", "likely", f"{A} on eth0")]
