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
