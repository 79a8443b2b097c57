# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many requests in one system call: each is done or refused by itself. What was done is read by ip."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

_ADD = """
import json, socket, struct
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink
def address(number):
    prefix = 99 if number == 150 else 32
    data = socket.inet_aton(f"10.9.0.{number}")
    return struct.pack("=BBBBI", socket.AF_INET, prefix, 0, 0, 1) + netlink.pack([(2, data)])  # IFA_LOCAL, on lo
with netlink.Socket(netlink.ROUTE) as sock:
    told = sock.send_all(20, [address(number) for number in range(1, 201)])  # RTM_NEWADDR
    print(json.dumps([error and error.errno for error in told]))
"""


def test_one_refused_request_keeps_the_others(ns: Any) -> None:
    told = ns.python_json(_ADD)
    assert len(told) == 200 and [number for number, error in enumerate(told, 1) if error] == [150] and told[149] == 22
    shown = json.loads(ns.run(["ip", "-j", "-4", "address", "show", "dev", "lo"]).stdout)[0]["addr_info"]
    got = {one["local"] for one in shown if one["local"].startswith("10.9.")}
    assert got == {f"10.9.0.{number}" for number in range(1, 201) if number != 150}


_ROUTES = """
import json, socket
from ansible_collections.netops.fleet.plugins.module_utils._kernel import netlink
from ansible_collections.netops.fleet.plugins.module_utils._lvs import host
with netlink.Socket(netlink.ROUTE) as sock:
    addresses = [f"10.9.{high}.{low}" for high in range(2) for low in range(100)]
    addresses += ["fd09::1", "fd09:1::1", "10.10.0.1", "10.8.0.9"]
    found = host.routes_to(sock, addresses)
print(json.dumps({one: None if route is None else [route.gateway, route.local, route.reachable] for one, route in found.items()}))
"""

_SETUP = """\
link add d0 type veth peer name d1
link set d1 up
link set d0 up
address add 10.8.0.9/24 dev d0
address add fd08::9/64 dev d0 nodad
route add 10.9.0.0/24 via 10.8.0.1
route add 10.9.1.0/24 dev d0
route add prohibit 10.10.0.0/24
route add fd09::/64 via fd08::1
"""


def test_many_routes_at_once(ns: Any) -> None:
    ns.run(["ip", "-batch", "-"], input=_SETUP)
    found = ns.python_json(_ROUTES)
    assert len(found) == 204
    assert found["10.8.0.9"] == [None, True, True] and not found["10.10.0.1"][2] and not found["fd09:1::1"][2]
    for address in ("10.9.0.7", "10.9.0.99", "10.9.1.0", "10.9.1.99", "fd09::1"):
        shown = json.loads(ns.run(["ip", "-j", "route", "get", address]).stdout)[0]
        assert found[address] == [shown.get("gateway"), False, True], address
    assert {tuple(found[f"10.9.0.{low}"]) for low in range(100)} == {("10.8.0.1", False, True)}
