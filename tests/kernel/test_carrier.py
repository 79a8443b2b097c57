# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cable that is pulled and put back while the host is read, and answers' time to live: of a real link, with real packets."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

FLAPPING = """
import json, subprocess
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import physical
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._evidence import drops, links, routes
counting = drops.Drops()
first = counting.begin()
for state in PULLS:
    subprocess.run(["ip", "link", "set", "far", state], check=True)
sections = {"drops": counting.end(first).data, "links": links.read().data, "routes": routes.read().data}
print(json.dumps([[one.id, one.subject] for one in physical.find(Facts({"sections": sections}))]))
"""

PING = """
import json, socket
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ping
families = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
print(json.dumps([ping.echo(family, (address, 0), 2, 0.01, 1.0).ttl for family, address in families]))
"""


@pytest.mark.parametrize(("pulls", "wanted"), [([], []), (["down", "up"], [["link-flapping", "near"]])])
def test_carrier_that_comes_and_goes(ns: Any, pulls: list[str], wanted: list[list[str]]) -> None:
    ns.run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"])
    for name in ("near", "far"):
        ns.run(["ip", "link", "set", name, "up"])
    ns.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "near"])
    ns.run(["ip", "route", "add", "default", "via", "192.0.2.2"])
    assert json.loads(ns.python(FLAPPING.replace("PULLS", repr(pulls))).stdout) == wanted


def test_time_to_live_of_answers(ns: Any) -> None:
    ns.run(["ip", "link", "set", "lo", "up"])
    ns.run(["sysctl", "-qw", "net.ipv4.ip_default_ttl=77", "net.ipv6.conf.lo.hop_limit=99"])
    assert json.loads(ns.python(PING).stdout) == [[77], [99]]
