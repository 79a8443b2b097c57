# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsers of the evidence readers: captured rows, and whatever a damaged file or a hostile server may hand them."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._evidence import (
    addresses,
    clock,
    drop_reasons,
    drops,
    names,
    probing,
    routes,
    sockets,
    sysctls,
)
from ansible_collections.netops.fleet.plugins.module_utils._kernel import dns, netlink, ping, procfs, rtnl, sockdiag

# ---- files of /proc -------------------------------------------------------------------------------------------------

SNMP = """Ip: Forwarding DefaultTTL InReceives InHdrErrors InDiscards
Ip: 1 64 100 2 3
Udp: InDatagrams NoPorts InErrors
Udp: 5 6 7
"""


def test_paired_tables() -> None:
    tables = procfs.paired_tables(SNMP)
    assert tables["Ip"] == {"Forwarding": 1, "DefaultTTL": 64, "InReceives": 100, "InHdrErrors": 2, "InDiscards": 3}
    assert tables["Udp"]["NoPorts"] == 6


def test_a_cut_table_gives_what_is_whole() -> None:
    assert procfs.paired_tables(SNMP[: SNMP.index("Udp: 5")]).keys() == {"Ip"}
    assert procfs.paired_tables("Ip: A B\nTcp: 1 2\n") == {}


def test_conntrack_columns_are_found_by_name_and_entries_not_summed() -> None:
    content = "entries  clashres found drop early_drop\n0000001a 0 0 00000002 0\n0000001a 0 0 0000000f 1\n"
    assert procfs.per_cpu_hex(content) == {"entries": 26, "clashres": 0, "found": 0, "drop": 17, "early_drop": 1}


def test_softnet_columns_old_and_new() -> None:
    old = "0000000f 00000003 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000007\n"
    assert drops.softnet_table(old) == {"cpu0 dropped": 3, "cpu0 time_squeeze": 1, "cpu0 flow_limit": 7}
    new = "00000001 00000002 " + "00000000 " * 10 + "0000000b 00000000 00000000\n"
    assert drops.softnet_table(new) == {"cpu11 dropped": 2}


def test_proc_net_tcp_lines() -> None:
    four = "   1: 0100007F:0050 0200000A:C350 01 00000000:00000003 00:00000000 00000000  1000        0 4242 1 0"
    entry = sockdiag.proc_line(four, socket.AF_INET, sockdiag.TCP)
    assert entry is not None
    assert (entry.address, entry.port, entry.remote, entry.remote_port) == ("127.0.0.1", 80, "10.0.0.2", 50000)
    assert (entry.state, entry.queue, entry.uid, entry.inode) == (1, 3, 1000, 4242)
    six = "0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 7 1"
    entry = sockdiag.proc_line(six, socket.AF_INET6, sockdiag.TCP)
    assert entry is not None and (entry.address, entry.port, entry.state) == ("::1", 22, sockdiag.LISTEN)


def test_sctp_endpoints() -> None:
    content = (
        " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"
        " 0 0 2   10  29   2905  1000 31337 10.0.0.5 fd00::5\n"
        " 0 0 2   7   30   2906  0 1 10.0.0.5\n"
    )
    found = sockets.sctp_table(content)
    assert [(one["address"], one["family"], one["port"], one["inode"], one["uid"]) for one in found] == [
        ("10.0.0.5", 4, 2905, 31337, 1000),
        ("fd00::5", 6, 2905, 31337, 1000),
    ]


@given(st.text(max_size=400))
def test_damaged_files_never_crash(content: str) -> None:
    for table in (
        procfs.paired_tables(content),
        procfs.flat_table(content),
        procfs.per_cpu_hex(content),
        drops.softnet_table(content),
    ):
        assert isinstance(table, dict)
    for line in content.splitlines():
        sockdiag.proc_line(line, socket.AF_INET, sockdiag.TCP)
        sockdiag.proc_line(line, socket.AF_INET6, sockdiag.UDP)
    assert all(one["proto"] == "sctp" for one in sockets.sctp_table(content))
    assert sum(drop_reasons.count_lines(content.splitlines()).values()) <= len(content.splitlines())
    found = names.resolv_conf(content)
    assert all(
        procfs.decimal(one.partition("%")[0].replace(".", "").replace(":", ""), 16) is not None for one in found["servers"]
    )
    names.nsswitch_hosts(content)


@given(st.integers(0, len(SNMP)))
def test_a_file_cut_anywhere_never_invents_a_name(length: int) -> None:
    whole = procfs.paired_tables(SNMP)
    for prefix, table in procfs.paired_tables(SNMP[:length]).items():
        assert table.keys() <= whole[prefix].keys()


# ---- netlink --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=120))
def test_damaged_messages_never_crash(body: bytes) -> None:
    addresses._address(body, {1: "lo"})
    routes._route(body, {1: "lo"})
    routes._multipath(body, {})
    if len(body) >= rtnl.RULE.size:
        routes._rule(body)


def test_a_route_with_a_gateway_of_the_other_family() -> None:
    via = struct.pack("=H", socket.AF_INET6) + socket.inet_pton(socket.AF_INET6, "fe80::1")
    attributes = netlink.pack([(1, socket.inet_aton("10.0.0.0")), (18, via), (4, 3), (15, 254)])
    route = routes._route(rtnl.ROUTE.pack(socket.AF_INET, 8, 0, 0, 254, 16, 0, 1, 0x10) + attributes, {3: "eth0"})
    assert route is not None
    assert (route["dst"], route["via"], route["dev"], route["table"], route["proto"]) == (
        "10.0.0.0/8",
        "fe80::1",
        "eth0",
        254,
        "dhcp",
    )
    assert route["flags"] == ["linkdown"]


# ---- differences ----------------------------------------------------------------------------------------------------

COUNTERS = st.dictionaries(st.sampled_from(["a", "b", "c", "va tbf 1: qlen"]), st.integers(0, 1000))


@given(COUNTERS, COUNTERS)
def test_a_difference_is_exact_or_a_reset(before: dict[str, int], after: dict[str, int]) -> None:
    found, reset = drops.difference(before, after)
    assert found is not None
    for name, value in found.items():
        start = before.get(name, 0)
        assert value["total"] == after.get(name, 0)
        if value["delta"] is None:
            assert reset and value["total"] < start
        else:
            assert value["delta"] == value["total"] - start
            assert value["delta"] >= 0 or name.endswith("qlen")
    assert all(name in found for name in after if after[name])


def test_a_layer_read_only_once_has_no_difference() -> None:
    assert drops.difference(None, {"a": 5}) == ({"a": {"delta": None, "total": 5}}, False)
    assert drops.difference({"a": 5}, None) == (None, False)


@pytest.mark.parametrize(
    "name",
    [
        "rx_discards_phy",
        "rx_out_of_buffer",
        "rx_missed_errors",
        "tx_timeout_count",
        "rx3_wqe_err",
        "rx_no_dma_resources_drop",
        "rx_crc_errors_phy",
    ],
)
def test_drivers_counters_of_loss(name: str) -> None:
    assert drops.is_loss(name)


@pytest.mark.parametrize("name", ["rx_packets", "tx_bytes_phy", "rx_interrupts", "tx_queue_0_packets", "rx_csum_complete"])
def test_drivers_counters_of_no_loss(name: str) -> None:
    assert not drops.is_loss(name)


# ---- drop reasons ---------------------------------------------------------------------------------------------------


def test_trace_lines_old_and_new() -> None:
    head = "  <idle>-0 [001] ..s2.  12.5: kfree_skb: skbaddr=0000000012345678 "
    lines = [
        "# tracer: nop\n",
        head + "rx_sk=0 protocol=2048 location=nft_do_chain_ipv4+0x8b/0xa0 [nf_tables] reason: NETFILTER_DROP\n",
        head + "protocol=2048 location=nft_do_chain_ipv4+0x11/0xa0 [nf_tables] reason: NETFILTER_DROP\n",
        head + "protocol=34525 location=00000000deadbeef\n",
        head + "protocol=0 location=unix_release_sock+0x1/0x2 reason: 0x10004\n",
    ]
    counts = drop_reasons.count_lines(lines)
    assert counts == {
        ("NETFILTER_DROP", "nft_do_chain_ipv4", 2048): 2,
        (None, "00000000deadbeef", 34525): 1,
        ("0x10004", "unix_release_sock", 0): 1,
    }


# ---- DNS ------------------------------------------------------------------------------------------------------------

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)


@given(st.lists(LABEL, max_size=8).map(".".join))
def test_names_survive_the_wire(name: str) -> None:
    wire = dns.encode_name(name)
    assert dns.read_name(wire, 0) == (name or ".", len(wire))


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".test", ".".join(["abcdefgh"] * 40), ".a"])
def test_names_that_cannot_be_asked(name: str) -> None:
    with pytest.raises(dns.Unaskable):
        dns.encode_name(name)


@given(st.binary(max_size=300))
def test_a_hostile_answer_is_read_or_refused(data: bytes) -> None:
    try:
        answer = dns.read_answer(data, "model.test", "A", 7)
    except dns.BadAnswer:
        return
    assert answer.status in ("ok", "nxdomain", "servfail", "refused")


@given(st.binary(max_size=200), st.integers(0, 5), st.sampled_from(["A", "AAAA", "NS", "SRV"]))
def test_hostile_records_behind_a_matching_question(tail: bytes, count: int, kind: str) -> None:
    data = struct.pack("!HHHHHH", 7, 0x8180, 1, count, 0, 0) + dns.question("m.test", kind, 7)[12:] + tail
    try:
        answer = dns.read_answer(data, "m.test", kind, 7)
    except dns.BadAnswer:
        return
    for text in answer.answers if kind in ("A", "AAAA") else ():
        socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, text)


def test_only_an_answer_to_the_question_is_believed() -> None:
    sent = dns.question("Model.Test", "A", 7)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("192.0.2.1")
    good = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0) + sent[12:] + record
    assert dns.read_answer(good, "model.test", "A", 7).answers == ["192.0.2.1"]
    for data, kind, number in ((good, "A", 8), (good, "AAAA", 7), (sent, "A", 7), (good[:-1], "A", 7)):
        with pytest.raises(dns.BadAnswer):
            dns.read_answer(data, "model.test", kind, number)


def test_resolv_conf() -> None:
    text = (
        "; x\nnameserver 192.0.2.1 # a\nnameserver fe80::1%eth0\nnameserver nonsense\n"
        "domain a.test\nsearch b.test c.test\noptions ndots:2 rotate\n"
    )
    assert names.resolv_conf(text) == {
        "servers": ["192.0.2.1", "fe80::1%eth0"],
        "search": ["b.test", "c.test"],
        "options": {"ndots": 2, "rotate": True},
    }


def test_systemd_resolveds_stub_and_its_upstreams(tmp_path: Any) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run/systemd/resolve").mkdir(parents=True)
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (tmp_path / "run/systemd/resolve/stub-resolv.conf").write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    (tmp_path / "run/systemd/resolve/resolv.conf").write_text("nameserver 127.0.0.99\nnameserver 127.0.0.98\n")
    section = names.read([], 0.2, root=str(tmp_path))
    assert (section.data["stub"], section.data["upstreams"]) == (True, ["127.0.0.99", "127.0.0.98"])
    assert "stub-resolv.conf" in section.data["source"]
    assert {one["server"] for one in section.data["lookups"]} == {"127.0.0.53", "127.0.0.99", "127.0.0.98"}


# ---- the rest -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=80))
def test_any_answer_of_a_time_server_is_judged(data: bytes) -> None:
    assert clock.judge(data, b"12345678", 1.8e9, 0.01)["status"] in ("ok", "unsynchronised", "wrong")


def test_time_survives_the_era_of_2036() -> None:
    for now in (1.7e9, 2.2e9, 4.0e9):
        stamp = struct.pack("!II", int(now + 5 + 2208988800) % (1 << 32), 0)
        answer = bytes([0x24, 1]) + bytes(22) + b"12345678" + stamp + stamp
        assert clock.judge(answer, b"12345678", now, 0.0)["offset_s"] == pytest.approx(5, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("192.0.2.1", ("192.0.2.1", 123)),
        ("a.test:99", ("a.test", 99)),
        ("[::1]:5", ("::1", 5)),
        ("::1", ("::1", 123)),
        ("[::1]", ("::1", 123)),
    ],
)
def test_servers_with_and_without_port(text: str, where: tuple[str, int]) -> None:
    assert clock.split_server(text) == where


@given(st.binary(max_size=100).filter(lambda data: len(data) % 2 == 0))
def test_the_checksum_checks_itself(data: bytes) -> None:
    total = ping.checksum(data)
    assert ping.checksum(data + struct.pack("!H", total)) == 0


@given(st.binary(max_size=60))
def test_any_packet_may_arrive_at_a_ping(data: bytes) -> None:
    assert ping.match(data, True, socket.AF_INET, 1, b"abcdefgh") is None or b"abcdefgh" in data


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h.test:8443/v1?key=abc&x#frag", "https://h.test:8443/v1?key=***&x"),
        ("http://h/", "http://h/"),
        ("http://[::1", "(not a URL)"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert probing.redacted(url) == shown


def test_sysctl_names_are_those_sysctl_reads() -> None:
    assert sysctls.dotted("net/ipv4/conf/eth0.5/rp_filter") == "net.ipv4.conf.eth0/5.rp_filter"
