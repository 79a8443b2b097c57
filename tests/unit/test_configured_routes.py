# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static routes of configuration files: every way to write one, what is no static route, and what is not understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import causes, configured_routes
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured as reader
from ansible_collections.netops.fleet.plugins.module_utils._evidence import configured_routes as files
from ansible_collections.netops.fleet.plugins.module_utils._evidence import route_words
from tests.unit.hosts import healthy, link

TABLES = {**route_words.TABLES, "blue": 1000}


def shown(parsed: files.Parsed) -> tuple[list[str], list[int]]:
    """Routes as ``ip route`` takes them, each behind its line; and the lines that were not understood."""
    routes, unread = parsed
    return [f"{one['line']}: {configured_routes._text(one)}" for one in routes], unread


# --- what stands behind ip route add, and lines of shell


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("default via 192.0.2.1 dev eth0", "default via 192.0.2.1 dev eth0"),
        ("0.0.0.0/0 via 192.0.2.1", "default via 192.0.2.1"),
        ("::/0 via fe80::1%eth0 dev eth0", "default via fe80::1 dev eth0"),
        ("unicast to 10.0.0.0/255.0.0.0 via 192.0.2.1 proto static scope global", "10.0.0.0/8 via 192.0.2.1"),
        ("10.0.0.1 dev eth0 src 192.0.2.11 mtu lock 1400", "10.0.0.1/32 dev eth0 src 192.0.2.11 mtu lock 1400"),
        ("10.0.0.0/8 via inet6 fe80::1 dev eth0 onlink", "10.0.0.0/8 via inet6 fe80::1 dev eth0 onlink"),
        ("10.0.0.0/8 via 192.0.2.1 table blue priority 5", "10.0.0.0/8 via 192.0.2.1 table 1000 metric 5"),
        ("10.0.0.0/8 nexthop via 192.0.2.1 dev eth0 weight 1 nexthop via 192.0.2.2",
         "10.0.0.0/8 nexthop via 192.0.2.1 nexthop via 192.0.2.2"),
        ("prohibit 10.0.0.0/8", "prohibit 10.0.0.0/8"),
        ("10/8 via 192.0.2.1", None),
        ("10.0.0.7/8 via 192.0.2.1", None),  # the kernel refuses it
        ("10.0.0.0/8 via 192.0.2.1 table red", None),
        ("10.0.0.0/8 via", None),
        ("10.0.0.0/8 via gateway", None),
        ("10.0.0.0/8 encap mpls 100 via 192.0.2.1", None),
        ("10.0.0.0/8 tos 8 via 192.0.2.1", None),
        ("local 10.0.0.0/8 dev lo", None),
        ("via 192.0.2.1", None),
        ("fd00::/8 via 192.0.2.1 metric -1", None),
    ],
)  # fmt: skip
def test_words_of_ip_route(text: str, wanted: str | None) -> None:
    if wanted is None:
        with pytest.raises(route_words.Unread):
            route_words.arguments(text.split(), 1, TABLES)
    else:
        assert configured_routes._text(route_words.arguments(text.split(), 1, TABLES)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ip route add 10.0.0.0/8 via 192.0.2.1 dev ${IFACE} || true", ["10.0.0.0/8 via 192.0.2.1 dev eth0"]),
        ("/sbin/ip -6 ro replace default via fe80::1 dev eth0 >/dev/null 2>&1; true", ["default via fe80::1 dev eth0"]),
        ("ip route add 10.0.0.0/8 via 192.0.2.1 && ip r a 11.0.0.0/8 via 192.0.2.1 # both",
         ["10.0.0.0/8 via 192.0.2.1", "11.0.0.0/8 via 192.0.2.1"]),
        ("ip route add 10.0.0.0/8 via 192.0.2.1 || ip route change 10.0.0.0/8 via 192.0.2.1", ["10.0.0.0/8 via 192.0.2.1"]),
        ("route add default gw 192.0.2.1 eth0", ["default via 192.0.2.1 dev eth0"]),
        ("route add -net 10.0.0.0/8 gw 192.0.2.1 || :", ["10.0.0.0/8 via 192.0.2.1"]),
        ("route add -net 0.0.0.0 netmask 0.0.0.0 gw 192.0.2.1", ["default via 192.0.2.1"]),
        ("route add -host 10.0.0.1 reject", ["unreachable 10.0.0.1/32"]),
        ("route -A inet6 add fd00::/8 gw fe80::1 dev eth0", ["fd00::/8 via fe80::1 dev eth0"]),
        ("ip route show", []),
        ("ip rule add from 10.0.0.1 table 7", []),
        ("ip link set eth0 mtu 9000", []),
        ("sysctl -w net.ipv4.conf.eth0.accept_source_route=0", []),
        ("echo up", []),
        ("ip route del default", None),
        ("ip route flush table 7", None),
        ("ip route add 10.0.0.0/8 via $GATEWAY", None),
        ("ip route add 10.0.0.0/8 via $(cat /gateway)", None),
        ("[ -e /far ] && ip route add 10.0.0.0/8 via 192.0.2.1", None),
        ("if [ -e /far ]; then ip route add 10.0.0.0/8 via 192.0.2.1; fi", None),
        ("sleep 1 | ip route add 10.0.0.0/8 via 192.0.2.1", None),
        ("ip -n far route add 10.0.0.0/8 via 192.0.2.1", None),
        ("ip netns exec far ip route add 10.0.0.0/8 via 192.0.2.1", None),
        ("/usr/local/sbin/add-routes eth0", None),
        ("route add -net 10.0.0.0 gw 192.0.2.1", None),  # how long, that tool guesses
        ("ip route add 10.0.0.0/8 via 'open", None),
    ],
)  # fmt: skip
def test_lines_of_shell(text: str, wanted: list[str] | None) -> None:
    if wanted is None:
        with pytest.raises(route_words.Unread):
            route_words.commands(text, 1, "eth0", TABLES)
    else:
        assert [configured_routes._text(one) for one in route_words.commands(text, 1, "eth0", TABLES)] == wanted


def test_names_of_tables(tmp_path: Path) -> None:
    for name, text in {
        "etc/iproute2/rt_tables": "# reserved\n255 local\n100 blue # mine\nnonsense\n",
        "etc/iproute2/rt_tables.d/more.conf": "101 green\n",
        "etc/systemd/networkd.conf": "[Network]\nRouteTable=red:102 broken\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = route_words.names(str(tmp_path), "etc/systemd/networkd.conf")
    assert found == {"main": 254, "default": 253, "local": 255, "blue": 100, "green": 101, "red": 102}


# --- files


def test_networkd_with_drop_ins() -> None:
    first = "[Network]\nGateway=192.0.2.1\nDHCP=no\n[Route]\nDestination=10.0.0.0/8\nGateway=192.0.2.9\n"
    assert [shown(one) for _path, one in files.networkd([("a", first)], TABLES)] == [
        (["5: 10.0.0.0/8 via 192.0.2.9", "2: default via 192.0.2.1"], [])
    ]
    second = "[Network]\nGateway=\nGateway=192.0.2.2\n[Route]\n#Gateway=192.0.2.3\n[Route]\nGateway=nonsense\n"
    assert [(path, shown(one)) for path, one in files.networkd([("a", first), ("b", second)], TABLES)] == [
        ("a", (["5: 10.0.0.0/8 via 192.0.2.9"], [])),
        ("b", (["3: default via 192.0.2.2"], [7])),
    ]


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        ("Gateway=_dhcp4\nDestination=10.0.0.0/8", ([], [])),
        ("Gateway=_ipv6ra", ([], [])),
        ("Destination=::/0\nGateway=fe80::1\nTable=blue", (["2: default via fe80::1 table 1000"], [])),
        ("Destination=10.0.0.0/8\nType=throw\nTable=7", (["2: throw 10.0.0.0/8 table 7"], [])),
        ("Destination=10.0.0.0/8\nDestination=\nGateway=192.0.2.1", (["4: default via 192.0.2.1"], [])),
        ("MultiPathRoute=192.0.2.8\nMultiPathRoute=\nMultiPathRoute=192.0.2.1@eth0 3\nMultiPathRoute=192.0.2.2",
         (["2: default nexthop via 192.0.2.1 nexthop via 192.0.2.2"], [])),
        ("Destination=10.0.0.0/8\nNextHop=7", (["2: 10.0.0.0/8"], [])),
        ("Destination=10.0.0.0/8\nType=local", ([], [2])),
        ("Destination=10.0.0.0/8\nTable=red", ([], [2])),
        ("Destination=10.0.0.0/8\nSource=192.0.2.0/24", ([], [2])),
        ("Destination=10.0.0.0/8\nSomethingNew=1", ([], [2])),
        ("Destination=10.0.0.0/8\\", ([], [2])),
        ("Metric=5", ([], [2])),
    ],
)  # fmt: skip
def test_a_route_of_networkd(section: str, wanted: tuple[list[str], list[int]]) -> None:
    assert shown(files.networkd([("a", f"[Route]\n{section}\n")], TABLES)[0][1]) == wanted


@pytest.mark.parametrize(
    ("profile", "wanted"),
    [
        ("[ipv4]\nmethod=manual\naddress1=192.0.2.11/24,192.0.2.1\naddress2=192.0.2.12/24,192.0.2.2",
         (["3: default via 192.0.2.1"], [])),
        ("[ipv4]\nmethod=manual\naddress1=192.0.2.11/24,192.0.2.1\nnever-default=true\nroute1=0.0.0.0/0,192.0.2.1", ([], [])),
        ("[ipv4]\nmethod=disabled\nroute1=10.0.0.0/8,192.0.2.1", ([], [])),
        ("[ipv4]\nmethod=auto\nroute-table=7\nroutes=10.0.0.0/8,192.0.2.1", (["4: 10.0.0.0/8 via 192.0.2.1 table 7"], [])),
        ("[ipv6]\nroute-table=0\nroute3=fd00::/8,fe80::1,5", (["3: fd00::/8 via fe80::1 metric 5"], [])),
        ("[ipv4]\nroute1=10.0.0.7/8\nroute1_options=table=7,type=blackhole,lock-mtu=true,initcwnd=20",
         (["2: blackhole 10.0.0.0/8 table 7"], [])),
        ("[ipv4]\nroute1=10.0.0.0/8,0.0.0.0,100", (["2: 10.0.0.0/8 metric 100"], [])),
        ("[ipv4]\nroute1=10.0.0.0/8\nroute1_options=tos=8", ([], [2])),
        ("[ipv4]\nroutes1=10.0.0.0;8;192.0.2.1;0;", ([], [2])),
        ("[wireguard-peer.x]\nroute1=10.0.0.0/8,192.0.2.1", ([], [])),
        ("[ipv4]\nmethod=auto\ndns=192.0.2.53;\nignore-auto-routes=true", ([], [])),
    ],
)  # fmt: skip
def test_a_profile_of_network_manager(profile: str, wanted: tuple[list[str], list[int]]) -> None:
    assert shown(files.keyfile(profile + "\n", TABLES)) == wanted


INTERFACES = """auto eth0 eth1
iface eth0 inet dhcp
  up ip route add 10.0.0.0/8 via 192.0.2.9
  gateway 192.0.2.8
iface eth1=home inet static
iface home inet static
  address 198.51.100.1/24
  metric 20
  gateway 198.51.100.9
  up ip route add 11.0.0.0/8 \\
     via 198.51.100.8
  up ip route del 12.0.0.0/8
  down ip route del 11.0.0.0/8
iface spare inet static
  gateway 203.0.113.1
# iface eth0 inet static
#   gateway 203.0.113.1
"""


def test_ifupdown_tells_routes_of_what_it_brought_up() -> None:
    found = files.interfaces(INTERFACES, {"eth0": "eth0", "home": "eth1"}, TABLES)
    assert [(name, shown(one)) for name, one in found] == [
        ("eth0", (["3: 10.0.0.0/8 via 192.0.2.9"], [])),
        ("eth1", (["10: 11.0.0.0/8 via 198.51.100.8", "9: default via 198.51.100.9 metric 20"], [12])),
    ]


@pytest.mark.parametrize(
    ("text", "family", "wanted"),
    [
        ("# mine\n10.0.0.0/8 via 192.0.2.1 dev eth0\ndefault via 192.0.2.1 # all\n", 4,
         (["2: 10.0.0.0/8 via 192.0.2.1 dev eth0", "3: default via 192.0.2.1"], [])),
        ("ADDRESS0='10.0.0.0'\nNETMASK0=255.0.0.0\nGATEWAY0=192.0.2.1\nADDRESS3=11.0.0.0\nNETMASK3=255.0.0.0\nMETRIC3=5\n"
         "ADDRESS4=12.0.0.0\n", 4, (["1: 10.0.0.0/8 via 192.0.2.1", "4: 11.0.0.0/8 metric 5"], [7])),
        ("default via fe80::1 dev eth0\n", 6, (["1: default via fe80::1 dev eth0"], [])),
        ("10.0.0.0/8 via $GW\n", 4, ([], [1])),
        ("10.0.0.0/8 via 192.0.2.1\n", 6, ([], [1])),
    ],
)  # fmt: skip
def test_route_files_of_red_hat(text: str, family: int, wanted: tuple[list[str], list[int]]) -> None:
    assert shown(files.red_hat(text, family, TABLES)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("IPADDR=192.0.2.11\nGATEWAY=192.0.2.1\nIPV6_DEFAULTGW=fe80::1%eth0\n",
         (["2: default via 192.0.2.1", "3: default via fe80::1"], [])),
        ("GATEWAY=192.0.2.1\nDEFROUTE=no\n", ([], [])),
        ("GATEWAY0=192.0.2.1\nIPV6_DEFROUTE=no\nIPV6_DEFAULTGW=fe80::1\n", (["1: default via 192.0.2.1"], [])),
        ("GATEWAY=192.0.2.1\nBOOTPROTO=dhcp\n", ([], [])),
        ("GATEWAY=$OTHER\n", ([], [1])),
    ],
)  # fmt: skip
def test_gateways_of_ifcfg_files(text: str, wanted: tuple[list[str], list[int]]) -> None:
    assert shown(files.ifcfg(text, TABLES)) == wanted


def test_routes_of_suse() -> None:
    text = (
        "# destination gateway mask interface type\ndefault 192.0.2.1 - -\n10.0.0.0/8 192.0.2.2 - eth0 unicast metric 5\n"
        "11.0.0.0 192.0.2.2 255.0.0.0\n12.0.0.0/8 - - - blackhole\n13.0.0.0 192.0.2.2 - -\n"
    )
    assert shown(files.suse(text, TABLES)) == (
        [
            "2: default via 192.0.2.1",
            "3: 10.0.0.0/8 via 192.0.2.2 dev eth0 metric 5",
            "4: 11.0.0.0/8 via 192.0.2.2",
            "5: blackhole 12.0.0.0/8",
        ],
        [6],
    )


@given(st.text(alphabet="[]=\n RouteGatewayaddvip12./:#\\@,;$-", max_size=300))
def test_whatever_the_files_say_nothing_breaks(text: str) -> None:
    for wrapped in (text, f"[Route]\n{text}", f"[ipv4]\nroute1={text}"):
        files.networkd([("a", wrapped)], TABLES)
        files.keyfile(wrapped, TABLES)
    files.interfaces(f"iface eth0 inet static\n gateway {text}\n up ip route add {text}", {"eth0": "eth0"}, TABLES)
    files.red_hat(text, 4, TABLES)
    files.red_hat(f"ADDRESS0={text}", 4, TABLES)
    files.ifcfg(f"GATEWAY={text}", TABLES)
    files.suse(text, TABLES)


# --- against the kernel

OWN = [
    {"link": "eth0", "family": 4, "address": "192.0.2.11", "prefix": 24, "scope": "global", "flags": []},
    {"link": "eth0", "family": 6, "address": "2001:db8::11", "prefix": 64, "scope": "global", "flags": []},
    {"link": "eth1", "family": 4, "address": "198.51.100.1", "prefix": 24, "scope": "global", "flags": []},
]


def there(dst: str, via: str | None = None, dev: str | None = "eth0", **more: Any) -> dict[str, Any]:
    """A route of the kernel."""
    base = {"family": 4, "table": 254, "type": "unicast", "dst": dst, "via": via, "dev": dev, "metric": 0, "nexthops": []}
    return {**base, "flags": [], **more}


def told(
    wanted: list[str],
    *have: dict[str, Any],
    manager: str = "systemd-networkd",
    file: str = "/etc/systemd/network/a.network",
    state: str | None = "configured",
    on: str | None = "eth0",
    **sections: Any,
) -> list[Finding]:
    routes = []
    for line, text in enumerate(wanted, 1):
        one = route_words.arguments(text.split(), line, TABLES)
        routes.append({"manager": manager, "file": file, "link": on, "state": state, **one})
    links = [link(), link("eth1", index=3), link("blue", index=4, kind="vrf")]
    given = {"links": links, "addresses": OWN, "routes": [*have], **sections}
    return configured_routes.find(Facts(healthy(configured={"links": [], "routes": routes, "unapplied": []}, **given)))


FAR = "10.0.0.0/8 via 192.0.2.9 dev eth0"


def test_a_lost_route() -> None:
    (found,) = told([FAR])
    assert (found.subject, found.severity, found.grade) == ("eth0", "warning", "likely")
    assert found.summary == (
        "/etc/systemd/network/a.network:1 (systemd-networkd) gives eth0 the route 10.0.0.0/8 via 192.0.2.9 dev eth0: "
        "the kernel does not have it."
    )
    assert found.evidence[0].endswith("in the kernel: no route to 10.0.0.0/8 in the main table")
    assert found.fix[0] == "ip route add 10.0.0.0/8 via 192.0.2.9 dev eth0"
    assert "networkctl reload && networkctl reconfigure eth0" in found.fix[1]


@pytest.mark.parametrize(
    ("manager", "file", "apply"),
    [
        ("systemd-networkd", "/run/systemd/network/10-netplan-eth0.network", "netplan apply"),
        ("NetworkManager", "/run/NetworkManager/system-connections/netplan-eth0.nmconnection", "netplan apply"),
        ("NetworkManager", "/etc/NetworkManager/system-connections/lan.nmconnection",
         "nmcli connection reload && nmcli device reapply eth0"),
        ("ifupdown", "/etc/network/interfaces", "ifdown --force eth0; ifup eth0"),
        ("wicked", "/etc/sysconfig/network/ifroute-eth0", "wicked ifreload eth0"),
    ],
)  # fmt: skip
def test_the_command_of_each_service(manager: str, file: str, apply: str) -> None:
    (found,) = told([FAR], manager=manager, file=file)
    assert found.fix[1] == f"# or all of the file anew: {apply}"


def test_many_lost_routes_of_a_file_are_one_finding() -> None:
    (found,) = told([f"10.{number}.0.0/16 via 192.0.2.9 dev eth0" for number in range(40)])
    assert "gives eth0 40 routes (10.0.0.0/16 via" in found.summary and len(found.evidence) == 12
    assert len(found.data["routes"]) == 40


@pytest.mark.parametrize(
    ("text", "have", "lost"),
    [
        (FAR, there("10.0.0.0/8", "192.0.2.9"), False),
        (FAR, there("10.0.0.0/8", "192.0.2.9", metric=100), False),  # none was said
        (f"{FAR} metric 5", there("10.0.0.0/8", "192.0.2.9", metric=100), True),
        (f"{FAR} metric 5", there("10.0.0.0/8", "192.0.2.9", metric=5), False),
        (FAR, there("10.0.0.0/8", "192.0.2.9", table=7), True),
        (f"{FAR} table 7", there("10.0.0.0/8", "192.0.2.9"), True),
        (f"{FAR} table 7", there("10.0.0.0/8", "192.0.2.9", table=7), False),
        (FAR, there("10.0.0.0/8", "192.0.2.8"), True),
        (FAR, there("10.0.0.0/8", "192.0.2.9", dev="eth1"), True),
        ("10.0.0.0/8 via 192.0.2.9", there("10.0.0.0/8", "192.0.2.9", dev="eth1"), False),  # the kernel chose it
        (FAR, there("10.0.0.0/8", "192.0.2.9", flags=["onlink", "linkdown"]), False),
        (FAR, there("10.0.0.0/9", "192.0.2.9"), True),
        (FAR, there("10.0.0.0/8", None, None, type="blackhole"), True),
        ("blackhole 10.0.0.0/8", there("10.0.0.0/8", None, None, type="blackhole"), False),
        ("blackhole 10.0.0.0/8", there("10.0.0.0/8", "192.0.2.9"), True),
        ("default via 192.0.2.1 dev eth0", there("default", "192.0.2.1", metric=1024), False),
        ("default via 192.0.2.1 dev eth0", there("default", "2001:db8::1", family=6), True),
        ("default via fe80::1 dev eth0", there("default", "fe80::1", family=6, metric=1024), False),
        ("2001:DB8:9::/48 via 2001:db8:0::1 dev eth0", there("2001:db8:9::/48", "2001:db8::1", family=6, metric=1024), False),
        ("10.0.0.0/8 dev eth0", there("10.0.0.0/8"), False),
        ("10.0.0.0/8 dev eth0", there("10.0.0.0/8", "192.0.2.9"), True),
        ("10.0.0.0/8 nexthop via 192.0.2.8 nexthop via 192.0.2.9",
         there("10.0.0.0/8", None, None, nexthops=[{"via": f"192.0.2.{one}", "dev": f"eth{one - 8}"} for one in (8, 9)]), False),
        ("10.0.0.0/8 nexthop via 192.0.2.8 nexthop via 192.0.2.9", there("10.0.0.0/8", "192.0.2.8"), True),
    ],
)  # fmt: skip
def test_what_counts_as_the_same_route(text: str, have: dict[str, Any], lost: bool) -> None:
    assert bool(told([text], have)) is lost


@pytest.mark.parametrize(
    "more",
    [
        {"links": [link(up=False)]},
        {"links": [link(carrier=False)]},
        {"links": [link("eth1")]},
        {"addresses": []},
        {"state": "configuring"},
        {"state": "pending"},
        {"routes": None},
    ],
)
def test_what_the_kernel_cannot_have_is_not_told(more: dict[str, Any]) -> None:
    assert told([FAR]) and told([FAR], **more) == []


def test_ipv6_that_is_switched_off_on_the_link() -> None:
    assert told(["default via fe80::1 dev eth0"])
    assert told(["default via fe80::1 dev eth0"], addresses=OWN[:1]) == []


def test_a_table_that_was_read_in_part_proves_nothing() -> None:
    wanted = {"manager": "ifupdown", "file": "/f", "link": "eth0", "state": None, **route_words.arguments(FAR.split(), 1, TABLES)}
    evidence = healthy(configured={"links": [], "routes": [wanted], "unapplied": []}, routes=[])
    assert configured_routes.find(Facts(evidence))
    evidence["coverage"] = [{"section": "routes", "status": "partial", "gaps": [{"what": "routes.ipv4", "why": "it changed"}]}]
    assert configured_routes.find(Facts(evidence)) == []


def test_a_link_in_a_vrf() -> None:
    links = [link(master="blue"), link("blue", index=4, kind="vrf")]
    have = there("10.0.0.0/8", "192.0.2.9", table=1000)
    assert told([FAR], have) and told([FAR], have, links=links) == []


def test_network_manager_makes_metrics_of_default_routes_larger() -> None:
    have = there("default", "192.0.2.1", metric=20100)
    wanted = ["default via 192.0.2.1 dev eth0 metric 100"]
    assert told(wanted, have) and told(wanted, have, manager="NetworkManager") == []


def test_two_links_that_want_the_default_route() -> None:
    wanted = ["default via 192.0.2.1", "default via 198.51.100.9"]
    assert told(wanted, there("default", "198.51.100.9", dev="eth1"), manager="ifupdown", on=None) == []
    (first, second) = told(wanted, manager="ifupdown", on=None)
    assert (first.subject, second.subject) == ("eth0", "eth1")


def test_a_route_without_a_link_is_that_of_its_gateway() -> None:
    assert told(["10.0.0.0/8 via 203.0.113.1"], manager="wicked", on=None) == [], "of which link, nobody knows"
    (found,) = told(["10.0.0.0/8 via 198.51.100.9"], manager="wicked", on=None)
    assert found.subject == "eth1"


def test_another_route_in_its_place_is_replaced() -> None:
    (found,) = told([FAR], there("10.0.0.0/8", "192.0.2.8"))
    assert found.fix[0] == "ip route replace 10.0.0.0/8 via 192.0.2.9 dev eth0"
    assert found.evidence[0].endswith("in the kernel: 10.0.0.0/8 via 192.0.2.8 dev eth0")
    (found,) = told(["fd00::/8 via fe80::1 dev eth0"], there("fd00::/8", "fe80::2", family=6, metric=1024))
    assert found.fix[0] == "ip -6 route replace fd00::/8 via fe80::1 dev eth0"


def test_which_files_of_red_hat_are_read(tmp_path: Path) -> None:
    folder = "etc/sysconfig/network-scripts"
    for name, text in {
        "run/lock/subsys/network": "",
        f"{folder}/ifcfg-eth0": "DEVICE=eth0\nIPADDR=192.0.2.11\nGATEWAY=192.0.2.1\n",
        f"{folder}/ifcfg-eth0:1": "DEVICE=eth0:1\nIPADDR=192.0.2.12\nGATEWAY=192.0.2.2\n",
        f"{folder}/ifcfg-eth1": "DEVICE=eth1\nONBOOT=no\nGATEWAY=192.0.2.3\n",
        f"{folder}/ifcfg-eth1.rpmsave": "DEVICE=eth1\nGATEWAY=192.0.2.3\n",
        f"{folder}/route-eth0": "10.0.0.0/8 via 192.0.2.9\n",
        f"{folder}/route-eth1": "11.0.0.0/8 via 192.0.2.9\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    routes = reader.read([link()], str(tmp_path)).data["routes"]
    assert [(one["file"].rpartition("/")[2], one["dst"]) for one in routes] == [
        ("ifcfg-eth0", "default"),
        ("route-eth0", "10.0.0.0/8"),
    ]
    (tmp_path / "etc/sysconfig/network").write_text("GATEWAYDEV=eth1\n", encoding="utf-8")
    assert [one["dst"] for one in reader.read([link()], str(tmp_path)).data["routes"]] == ["10.0.0.0/8"]


def test_what_is_not_understood_is_a_gap(tmp_path: Path) -> None:
    for name, text in {
        "etc/network/interfaces": "auto eth0\niface eth0 inet static\n  up ip route add $NET via 192.0.2.1\n" * 30,
        "run/network/ifstate": "eth0=eth0\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    section = reader.read([link()], str(tmp_path))
    assert section.data["routes"] == [] and len(section.gaps) == 16
    assert section.gaps[0].why == "/etc/network/interfaces:3 is more than is understood of routes: not compared"


def test_the_lost_route_tells_what_lies_beyond_it() -> None:
    (lost,) = told([FAR])
    behind = [
        Finding("route-missing", "proven", "critical", "10.0.0.1", "x", data={"addresses": ["10.0.0.1"]}),
        Finding("firewall-drops-target", "proven", "critical", "no route to 10.0.0.2", "x"),
        Finding("ping-unreachable", "proven", "critical", "10.0.0.3", "x", data={"address": "10.0.0.3", "status": "timeout"}),
    ]
    other = Finding("route-missing", "proven", "critical", "11.0.0.1", "x", data={"addresses": ["10.0.0.1", "11.0.0.1"]})
    left = causes.attach(Facts(healthy()), [*behind, lost, other])
    assert left == [lost, other] and lost.severity == "critical" and len(lost.data["consequences"]) == 3

    (lost,) = told([FAR])
    address = Finding("interface-config-differs", "likely", "warning", "eth0", "x", data={"link": "eth0"})
    assert causes.attach(Facts(healthy()), [lost, address]) == [address]
