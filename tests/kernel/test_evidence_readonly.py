# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading changes nothing: modules, rules, qdiscs, sysctls, links, mounts, tracer, before and after, as other tools see them."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.kernel

NETLINK_SOCK_DIAG = 4

EVERYTHING = """
from ansible_collections.netops.fleet.plugins.module_utils._evidence import (
    addresses, clock, conntrack, drop_reasons, drops, links, names, neighbours, probes, routes, sockets, sysctls, tunnels)
r, d, c = drop_reasons.DropReasons(), drops.Drops(), conntrack.Conntrack()
windows = r.begin(), d.begin(), c.begin()
sections = [m.read() for m in (links, addresses, routes, neighbours, sockets, sysctls, clock, conntrack)]
sections += [tunnels.read(sections[0].data), routes.read_rules(), names.read(['localhost'], 0.5)]
sections += [probes.run([{'kind': 'ping', 'target': '127.0.0.1', 'count': 1}])]
sections += [r.end(windows[0]), d.end(windows[1]), c.end(windows[2])]
assert all(s.data is not None for s in sections), sections
print(len(sections))
"""

# What moves by itself, whether or not somebody looks.
VOLATILE = (
    "random.",
    "fs.dentry-state",
    "fs.inode-",
    "fs.file-nr",
    "kernel.random",
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "_count",
)


def state(ns: Any) -> dict[str, Any]:
    lines = ns.run(["sysctl", "-a"], check=False).stdout.splitlines()
    modules = ns.run(["sh", "-c", "cat /proc/modules 2>/dev/null; ls /sys/module"]).stdout
    tracer = "mount --make-rprivate / && mount -t tracefs none /mnt && ls /mnt/instances | grep -v _; cat /mnt/events/skb/enable"
    return {
        "sysctls": [line for line in lines if not any(word in line.split(" = ")[0] for word in VOLATILE)],
        "modules": modules,
        "rules": ns.run(["nft", "list", "ruleset"]).stdout,
        "qdiscs": ns.json(["tc", "-j", "qdisc"]),
        "links": ns.json(["ip", "-j", "link"]),
        "addresses": ns.json(["ip", "-j", "addr"]),
        "routes": ns.run(["ip", "route", "show", "table", "all"]).stdout,
        "mounts": [line for line in ns.run(["cat", "/proc/1/mounts"], check=False).stdout.splitlines() if "nsfs" not in line],
        "tracer": ns.run(["unshare", "-m", "sh", "-c", tracer]).stdout,
        "listening": ns.run(["ss", "-Hlntux"]).stdout.count("LISTEN"),
    }


@pytest.mark.alone  # the tracer, modules, and parameters of kernel, vm and fs are the machine's
def test_reading_everything_changes_nothing(ns: Any, wait_until: Any) -> None:
    ns.run(["nft", "add table t; add chain t i { type filter hook input priority 0; }; add rule t i tcp dport 9 drop"])
    ns.run(["ip", "link", "add", "x1", "type", "veth", "peer", "name", "x2"])
    for name in ("x1", "x2"):
        ns.run(["ip", "link", "set", name, "addrgenmode", "none", "up"])
    # Links settle by themselves: what is compared must have come to rest.
    wait_until(lambda: [link["operstate"] for link in ns.json(["ip", "-j", "link"])][1:] == ["UP", "UP"])
    before = state(ns)
    assert len(before["sysctls"]) > 100 and before["rules"]
    assert ns.python(EVERYTHING).stdout.strip() == "15"
    after = state(ns)
    for name, value in before.items():
        assert after[name] == value, name


def test_a_protocol_whose_module_is_not_there_is_not_asked_for(ns: Any) -> None:
    """On a kernel that would load tcp_diag on demand: no sock_diag socket may be opened."""
    code = (
        "import socket\n"
        "from ansible_collections.netops.fleet.plugins.module_utils._kernel import modules, netlink\n"
        "from ansible_collections.netops.fleet.plugins.module_utils._evidence import drops, sockets\n"
        "modules.present = lambda name: None if name.endswith('_diag') else True\n"
        "real, asked = netlink.Socket.__init__, []\n"
        "def init(self, protocol, timeout=5.0):\n    asked.append(protocol); real(self, protocol, timeout)\n"
        "netlink.Socket.__init__ = init\n"
        "k = socket.create_server(('127.0.0.1', 1678))\n"
        "found = [one['port'] for one in sockets.read().data['listeners']]\n"
        "section = drops.Drops().end(drops.Drops().begin())\n"
        "import json\nprint(json.dumps([found, asked, [g.what for g in section.gaps]]))\n"
    )
    found, asked, gaps = ns.python_json(code)
    assert found == [1678]
    assert asked and NETLINK_SOCK_DIAG not in asked
    assert "drops.socket" in gaps
