# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses, routes, rules, neighbours, sysctls, conntrack: what is read against what ``ip`` and others say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.module_utils._evidence import links

pytestmark = pytest.mark.kernel

ROOM = "from ansible_collections.netops.fleet.plugins.module_utils._evidence import {0}\n"
SHOW = "import json\nprint(json.dumps({'data': s.data, 'gaps': [g.to_dict() for g in s.gaps]}))\n"


def read(ns: Any, module: str, call: str = "read()") -> Any:
    """The section's data; a reader that leaves a gap where there is none to leave fails the test."""
    section = ns.python_json(ROOM.format(module) + f"s = {module}.{call}\n" + SHOW)
    assert section["gaps"] == []
    return section["data"]


def test_links_agree_with_ip(pair: Any) -> None:
    left, _right = pair
    left.run(["ip", "link", "add", "br0", "type", "bridge"])
    left.run(["ip", "link", "add", "link", "va", "name", "mac0", "type", "macvlan", "mode", "bridge"])
    left.run(["ip", "link", "add", "vx5", "type", "vxlan", "id", "5", "dstport", "4789", "local", "10.77.0.1"])
    left.run(["ip", "link", "add", "x1", "mtu", "9000", "type", "veth", "peer", "name", "x2"])
    left.run(["ip", "link", "set", "x1", "master", "br0"])
    found = {link["name"]: link for link in read(left, "links")}
    witness = {link["ifname"]: link for link in left.json(["ip", "-j", "-d", "link"])}
    assert found.keys() == witness.keys()
    for name, link in found.items():
        said = witness[name]
        assert link["index"] == said["ifindex"]
        assert link["mac"] == said["address"]
        assert link["mtu"] == said["mtu"]
        assert link["up"] == ("UP" in said["flags"])
        assert link["operstate"] == said["operstate"].lower()
        assert link["master"] == said.get("master")
        assert link["kind"] == said.get("linkinfo", {}).get("info_kind")
        assert link["qdisc"] == said.get("qdisc")
        assert link["qlen"] == said.get("txqlen", 0)
        assert link["physical"] is False
        assert link["type"] == said["link_type"]
    assert found["va"]["carrier"] is True
    assert found["x1"]["carrier"] is None
    assert found["x1"]["peer_index"] == found["x2"]["index"]
    assert (found["x1"]["peer_elsewhere"], found["va"]["peer_elsewhere"]) == (False, True)
    assert found["mac0"]["peer_index"] == found["va"]["index"]
    assert found["vx5"]["detail"] == {"number": 5, "port": 4789, "local": "10.77.0.1"}


def test_devices_of_the_machine_are_told_from_software_links() -> None:
    """In the machine's own namespace: sysfs says which links have a device and which driver; only what is read here is asked."""
    found = {link["name"]: link for link in links.read().data}
    with_device = {name for name in os.listdir("/sys/class/net") if os.path.exists(f"/sys/class/net/{name}/device")}
    assert "lo" in found
    assert {name for name, link in found.items() if link["physical"]} == with_device
    for name in with_device:
        assert found[name]["driver"] == os.path.basename(os.readlink(f"/sys/class/net/{name}/device/driver")), name


def test_a_link_is_not_taken_for_its_namesake_elsewhere(ns: Any) -> None:
    """Only the network namespace is entered, so /sys still shows the machine's own links: they must not be believed."""
    names = sorted(name for name in os.listdir("/sys/class/net") if os.path.exists(f"/sys/class/net/{name}/device")) or ["lo"]
    if names != ["lo"]:
        ns.run(["ip", "link", "add", names[0], "type", "veth", "peer", "name", "other"])
    code = ROOM.format("links") + "s = links.read()\n" + SHOW
    argv = ["nsenter", f"--net=/run/netns/{ns.name}", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=ns.environment())
    found = {link["name"]: link for link in json.loads(done.stdout)["data"]}
    assert (found[names[0]]["physical"], found[names[0]]["driver"], found[names[0]]["numa_node"]) == (False, None, None)


def test_the_drivers_ioctls(pair: Any) -> None:
    """A veth's driver counts the index of its peer; its speed and duplex are in sysfs as well."""
    left, right = pair
    code = (
        "from ansible_collections.netops.fleet.plugins.module_utils._kernel import ethtool\n"
        "import json\n"
        "with ethtool.Ethtool() as tool:\n"
        "    names = tool.counter_names('va')\n"
        "    counters = dict(zip(names, tool.counters('va', len(names))))\n"
        "    print(json.dumps([tool.driver('va'), tool.link_settings('va'), counters]))\n"
    )
    driver, (speed, duplex), counters = left.python_json(code)
    assert driver == "veth"
    assert str(speed) == left.run(["cat", "/sys/class/net/va/speed"]).stdout.strip()
    assert duplex == left.run(["cat", "/sys/class/net/va/duplex"]).stdout.strip()
    assert counters["peer_ifindex"] == right.json(["ip", "-j", "link", "show", "vb"])[0]["ifindex"]


def test_a_link_without_its_other_end_has_no_carrier(pair: Any) -> None:
    left, right = pair
    right.run(["ip", "link", "set", "vb", "down"])
    link = next(link for link in read(left, "links") if link["name"] == "va")
    assert (link["up"], link["carrier"]) == (True, False)
    assert link["carrier_changes"] == int(left.run(["cat", "/sys/class/net/va/carrier_changes"]).stdout)


def test_addresses_agree_with_ip(pair: Any) -> None:
    left, _right = pair
    left.run(["ip", "addr", "add", "10.77.0.9/24", "dev", "va"])
    left.run(["ip", "addr", "add", "10.9.9.1", "peer", "10.9.9.2/32", "dev", "va"])
    left.run(["ip", "-6", "addr", "add", "fd77::5/64", "dev", "va", "preferred_lft", "0"])
    found = {(one["link"], one["address"]): one for one in read(left, "addresses")}
    witness = {(link["ifname"], one["local"]): one for link in left.json(["ip", "-j", "addr"]) for one in link["addr_info"]}
    assert found.keys() == witness.keys()
    for key, one in found.items():
        said = witness[key]
        assert (one["prefix"], one["scope"]) == (said["prefixlen"], said["scope"])
        assert one["family"] == (4 if said["family"] == "inet" else 6)
        assert one["peer"] == said.get("address")
        for flag in ("tentative", "dadfailed", "deprecated", "secondary", "nodad"):
            assert (flag in one["flags"]) == bool(said.get(flag)), (key, flag)
    assert "secondary" in found["va", "10.77.0.9"]["flags"]
    assert "deprecated" in found["va", "fd77::5"]["flags"]


def test_a_duplicate_address_is_seen_as_such(make_ns: Any, pair: Any, wait_until: Any) -> None:
    left, right = pair
    right.run(["ip", "-6", "addr", "add", "fd77::dead/64", "dev", "vb", "nodad"])
    left.run(["ip", "-6", "addr", "add", "fd77::dead/64", "dev", "va"])
    wait_until(lambda: "dadfailed" in left.run(["ip", "-6", "addr", "show", "dev", "va"]).stdout)
    flags = next(one["flags"] for one in read(left, "addresses") if one["address"] == "fd77::dead")
    assert "dadfailed" in flags


def test_routes_agree_with_ip(pair: Any) -> None:
    left, _right = pair
    for command in (
        "route add default via 10.77.0.2 metric 50",
        "route add 10.1.0.0/16 via 10.77.0.2 dev va mtu 1300 src 10.77.0.1",
        "route add blackhole 10.2.0.0/16",
        "route add unreachable 10.3.0.0/16 metric 7",
        "route add 10.4.0.0/16 nexthop via 10.77.0.2 dev va weight 3 nexthop via 10.77.0.3 dev va onlink",
        "route add 10.5.0.0/16 via 192.0.2.9 dev va onlink table 100",
        "route add 10.6.0.0/16 via inet6 fd77::2 dev va",
        "nexthop add id 7 via 10.77.0.2 dev va",
        "nexthop add id 8 via 10.77.0.3 dev va",
        "nexthop add id 9 group 7/8,4",
        "route add 10.7.0.0/16 nhid 7",
        "route add 10.8.0.0/16 nhid 9",
        "-6 route add default via fd77::2",
        "-6 route add prohibit fd01::/16",
        "-6 route add fd02::/16 nexthop via fd77::2 dev va nexthop via fd77::3 dev va",
    ):
        left.run(["ip", *command.split()])
    check_routes(left)
    # Without the compatible form the kernel names only the object; the reader has to look it up.
    left.run(["sysctl", "-w", "net.ipv4.nexthop_compat_mode=0"])
    check_routes(left)


def check_routes(ns: Any) -> None:
    found = read(ns, "routes")
    for family in (4, 6):
        said = ns.json(["ip", "-j", "-d", "-N", f"-{family}", "route", "show", "table", "all"])
        ours = [route for route in found if route["family"] == family]
        assert len(ours) == len(said)
        keys = {(route["dst"], route["table"], route["dev"], route["type"], route["metric"]): route for route in ours}
        assert len(keys) == len(ours)
    main = {route["dst"]: route for route in found if route["table"] == 254 and route["family"] == 4}
    assert (main["default"]["via"], main["default"]["metric"], main["default"]["dev"]) == ("10.77.0.2", 50, "va")
    assert (main["10.1.0.0/16"]["mtu"], main["10.1.0.0/16"]["prefsrc"]) == (1300, "10.77.0.1")
    assert main["10.2.0.0/16"]["type"] == "blackhole"
    assert (main["10.3.0.0/16"]["type"], main["10.3.0.0/16"]["metric"]) == ("unreachable", 7)
    hops = [(hop["via"], hop["dev"], hop["weight"]) for hop in main["10.4.0.0/16"]["nexthops"]]
    assert hops == [("10.77.0.2", "va", 3), ("10.77.0.3", "va", 1)]
    assert "onlink" in main["10.4.0.0/16"]["nexthops"][1]["flags"]
    assert main["10.6.0.0/16"]["via"] == "fd77::2"
    assert (main["10.7.0.0/16"]["nexthop_id"], main["10.7.0.0/16"]["via"], main["10.7.0.0/16"]["dev"]) == (7, "10.77.0.2", "va")
    hops = [(hop["via"], hop["weight"]) for hop in main["10.8.0.0/16"]["nexthops"]]
    assert hops == [("10.77.0.2", 1), ("10.77.0.3", 4)]
    other = [route for route in found if route["table"] == 100]
    assert [(route["dst"], route["via"], route["flags"]) for route in other] == [("10.5.0.0/16", "192.0.2.9", ["onlink"])]
    assert any(route["table"] == 255 and route["type"] == "local" and route["dst"] == "10.77.0.1/32" for route in found)
    six = {route["dst"]: route for route in found if route["family"] == 6 and route["table"] == 254}
    assert six["default"]["via"] == "fd77::2"
    assert six["fd01::/16"]["type"] == "prohibit"
    assert [hop["via"] for hop in six["fd02::/16"]["nexthops"]] == ["fd77::2", "fd77::3"]


def test_routes_over_a_dead_link_say_so(pair: Any, wait_until: Any) -> None:
    left, right = pair
    right.run(["ip", "link", "set", "vb", "down"])
    wait_until(lambda: "linkdown" in left.run(["ip", "route"]).stdout)
    route = next(route for route in read(left, "routes") if route["dst"] == "10.77.0.0/24" and route["table"] == 254)
    assert "linkdown" in route["flags"]


def test_a_long_table_keeps_what_matters_and_says_so(pair: Any) -> None:
    left, _right = pair
    batch = "".join(f"route add 10.{100 + n // 250}.{n % 250}.0/24 via 10.77.0.2\n" for n in range(1000))
    left.run(["ip", "-batch", "-"], input=batch + "route add 11.0.0.0/8 dev va\nroute add default via 10.77.0.2\n")
    section = left.python_json(ROOM.format("routes") + "s = routes.read(limit=100)\n" + SHOW)
    kept = [route for route in section["data"] if route["family"] == 4]
    assert 100 <= len(kept) <= 200
    assert {"default", "11.0.0.0/8"} <= {route["dst"] for route in kept}
    total = len(left.json(["ip", "-j", "-4", "route", "show", "table", "all"]))
    assert [gap["what"] for gap in section["gaps"]] == ["routes.ipv4"]
    assert f"{len(kept)} of {total} routes" in section["gaps"][0]["why"]


def test_policy_rules_agree_with_ip(ns: Any) -> None:
    ns.run(["ip", "rule", "add", "from", "10.1.0.0/16", "fwmark", "0x10/0xff", "iif", "lo", "table", "100", "priority", "99"])
    ns.run(["ip", "rule", "add", "not", "to", "10.2.0.0/16", "prohibit", "priority", "98"])
    ns.run(["ip", "-6", "rule", "add", "ipproto", "tcp", "dport", "443", "table", "7", "priority", "97"])
    found = read(ns, "routes", "read_rules()")
    for family in (4, 6):
        said = ns.json(["ip", "-j", "-N", f"-{family}", "rule"])
        assert [rule["priority"] for rule in found if rule["family"] == family] == [rule["priority"] for rule in said]
    rule = next(rule for rule in found if rule["priority"] == 99)
    assert (rule["from"], rule["fwmark"], rule["fwmask"], rule["iif"], rule["table"], rule["action"]) == (
        "10.1.0.0/16", 0x10, 0xFF, "lo", 100, "lookup",
    )  # fmt: skip
    rule = next(rule for rule in found if rule["priority"] == 98)
    assert (rule["to"], rule["not"], rule["action"]) == ("10.2.0.0/16", True, "prohibit")
    rule = next(rule for rule in found if rule["priority"] == 97)
    assert (rule["ip_proto"], rule["dport_range"], rule["table"]) == (6, [443, 443], 7)


def test_neighbours_agree_with_ip(pair: Any, wait_until: Any) -> None:
    left, _right = pair
    left.python(
        "import socket\n"
        "for family, where in ((2, '10.77.0.2'), (10, 'fd77::2'), (2, '10.77.0.66')):\n"
        "    socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', (where, 4000))\n"
    )
    wait_until(lambda: len([one for one in left.json(["ip", "-j", "neigh"]) if "lladdr" in one]) == 2)
    left.run(["ip", "neigh", "add", "10.77.0.88", "lladdr", "02:00:00:00:00:88", "dev", "va"])
    wait_until(lambda: "FAILED" in left.run(["ip", "neigh", "show", "10.77.0.66"]).stdout)
    found = {one["address"]: one for one in read(left, "neighbours")}
    witness = {one["dst"]: one for one in left.json(["ip", "-j", "neigh"])}
    assert witness.keys() <= found.keys()
    for address, said in witness.items():
        assert found[address]["mac"] == said.get("lladdr"), address
        assert found[address]["dev"] == "va"
    assert found["10.77.0.66"]["state"] == "failed"
    assert (found["10.77.0.88"]["state"], found["10.77.0.88"]["mac"]) == ("permanent", "02:00:00:00:00:88")
    assert found["10.77.0.2"]["mac"] == witness["10.77.0.2"]["lladdr"]
    assert found["fd77::2"]["family"] == 6
    assert not any(one["address"].startswith("ff02:") for one in found.values())


def test_sysctls_are_this_namespaces_and_hold_no_secret(pair: Any) -> None:
    left, _right = pair
    left.run(["sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.va.rp_filter=1"])
    left.run(["ip", "link", "set", "va", "down"])
    left.run(["ip", "link", "set", "va", "name", "va.1"])
    left.run(["sysctl", "-w", "net.ipv6.conf.va/1.stable_secret=2001:db8::5ec2:e7aa:1234"])
    left.run(["sysctl", "-w", "net.ipv4.tcp_fastopen_key=11111111-22222222-33333333-44444444"])
    found = read(left, "sysctls", "read(['va.1'])")
    assert found["net.ipv4.ip_forward"] == "1"
    assert found["net.ipv4.conf.va/1.rp_filter"] == "1"
    for name in (
        "net.ipv4.tcp_rmem",
        "net.core.somaxconn",
        "net.ipv4.tcp_wmem",
        "net.ipv6.conf.va/1.disable_ipv6",
    ):
        assert found[name] == " ".join(left.run(["sysctl", "-n", name]).stdout.split())
    text = " ".join([*found, *found.values()])
    assert "secret" not in text.replace("ip6frag_secret_interval", "") and "5ec2" not in text
    assert "fastopen_key" not in text and "33333333" not in text


def test_conntrack_counts_what_happens_within_the_window(pair: Any) -> None:
    left, right = pair
    left.run(["nft", "add table t; add chain t i { type filter hook input priority 0; }; add rule t i ct state new counter"])
    left.run(["nft", "add", "rule", "t", "i", "ct state invalid", "counter", "comment", "invalid"])
    # TCP segments without any flag belong to no connection: each is counted as invalid, and only those sent in the window.
    null = (
        "import socket, struct, sys\n"
        "k = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)\n"
        "for _ in range(int(sys.argv[1])): k.sendto(struct.pack('!HHIIHHHH', 9, 9, 1, 0, 0x5000, 1024, 0, 0), ('10.77.0.1', 0))\n"
    )
    right.python(null, "4")
    reader = left.start_python(
        ROOM.format("conntrack")
        + "t = conntrack.Conntrack(); first = t.begin(); print('ready'); input()\n"
        + "s = t.end(first)\n"
        + SHOW
    )
    right.python(null, "7")
    right.python("import socket\nfor n in range(25): socket.socket(2, socket.SOCK_DGRAM).sendto(b'x', ('10.77.0.1', 4000))")
    output, _none = reader.communicate("go\n", timeout=30)
    section = json.loads(output.splitlines()[-1])
    assert section["gaps"] == []
    assert section["data"]["stat"]["invalid"] == 7
    assert section["data"]["stat"]["drop"] == 0
    rules = left.json(["nft", "-j", "list", "chain", "ip", "t", "i"])["nftables"]
    counted = next(
        one["rule"]["expr"][-1]["counter"]["packets"] for one in rules if one.get("rule", {}).get("comment") == "invalid"
    )
    assert counted == 11
    entries = left.run(["cat", "/proc/net/nf_conntrack"]).stdout.splitlines()
    assert section["data"]["count"] == len(entries) == 25
    assert section["data"]["max"] == int(left.run(["sysctl", "-n", "net.netfilter.nf_conntrack_max"]).stdout)
