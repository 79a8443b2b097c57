# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets as numbers: what text means, what it covers, what differs. The witness is Python's own ipaddress, address by address."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_content, set_plan, set_records
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_content import KINDS, Content, ContentError
from ansible_collections.netops.fleet.plugins.module_utils._firewall.set_plan import Present, SetsError, Wanted
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ipset
from ansible_collections.netops.fleet.plugins.module_utils._safety import ipset_state

NET, IP = KINDS["hash:net"], KINDS["hash:ip"]


def nets(*lines: str, width: int = 32) -> Content:
    return set_content.parse(lines, NET, width)


def present(content: Content, **more: Any) -> Present:
    return Present(content.kind.name, content.width, content, maxelem=65536, **more)


def reasons(one: Content, other: Content) -> list[str]:
    return set_plan.plan(present(one), Wanted("x", other), 10).reasons


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["10.0.0.0/8"], ["10.0.0.0/9", "10.128.0.0/9"]),
        (["10.0.0.0/8", "10.3.0.0/16"], ["10.0.0.0/8"]),
        (["10.0.0.0/8", "10.1.0.0/16 nomatch"], ["10.0.0.0/8", "10.1.0.0/17 nomatch", "10.1.128.0/17 nomatch"]),
        (["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"]),
        (["192.0.2.1-192.0.2.4"], ["192.0.2.1", "192.0.2.2/31", "192.0.2.4"]),
        (["192.0.2.77/24"], ["192.0.2.0/24"]),
        (["10.0.0.0/8 nomatch"], []),
    ],
)
def test_other_words_for_the_same_addresses_are_no_difference(one: list[str], other: list[str]) -> None:
    assert reasons(nets(*one), nets(*other)) == []
    assert reasons(nets(*other), nets(*one)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["10.0.0.0/8", "10.1.0.0/16 nomatch"], ["10.0.0.0/8"]),
        (["10.0.0.0/8", "10.1.0.0/16 nomatch", "10.1.2.0/24"], ["10.0.0.0/8", "10.1.0.0/16 nomatch"]),
        (["10.0.0.0/8"], ["10.0.0.0/9"]),
        (["10.0.0.0/8"], []),
    ],
)
def test_other_addresses_are_a_difference(one: list[str], other: list[str]) -> None:
    assert reasons(nets(*one), nets(*other)) != []
    assert reasons(nets(*other), nets(*one)) != []


def test_ipv6_in_other_spelling_is_the_same() -> None:
    assert reasons(nets("fdc8:1324:5678:0::/64", width=128), nets("fdc8:1324:5678::/64", width=128)) == []


_PREFIX = st.tuples(st.integers(0, 255), st.integers(24, 32), st.booleans())


@given(st.lists(_PREFIX, max_size=8))
def test_cover_is_what_the_longest_prefix_says(given_prefixes: list[tuple[int, int, bool]]) -> None:
    chosen: dict[ipaddress.IPv4Network, bool] = {}
    for number, length, inside in given_prefixes:
        chosen.setdefault(ipaddress.IPv4Network((0xC0000200 + number, length), strict=False), inside)
    content = nets(*(f"{net}{'' if inside else ' nomatch'}" for net, inside in chosen.items()))
    runs = set_content.covered(content).get(0, [])
    assert all(one[1] + 1 < other[0] for one, other in zip(runs, runs[1:])), "disjoint, in order, adjacent ones joined"
    for number in range(0xC0000200 - 2, 0xC0000300 + 2):
        address = ipaddress.IPv4Address(number)
        holding = [net for net in chosen if address in net]
        expected = bool(holding) and chosen[max(holding, key=lambda net: net.prefixlen)]
        assert any(low <= number <= high for low, high in runs) == expected, address


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_range_becomes_the_fewest_prefixes(one: int, other: int) -> None:
    low, high = min(one, other), max(one, other)
    found = set_content.prefixes(low, high, 32)
    whole = list(ipaddress.summarize_address_range(ipaddress.IPv4Address(low), ipaddress.IPv4Address(high)))
    if (low, high) == (0, 2**32 - 1):
        assert found == [(0, 1), (1 << 31, 1)]  # no set holds /0
    else:
        assert found == [(int(net.network_address), net.prefixlen) for net in whole]


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("192.0.2.300", "hash:net", "not an IPv4 address, prefix or range"),
        ("2001:db8::1", "hash:net", "not an IPv4 address"),
        ("192.0.2.0/33", "hash:net", "not an IPv4 address"),
        ("192.0.2.9-192.0.2.1", "hash:net", "not an IPv4 address"),
        ("010.0.0.1", "hash:net", "not an IPv4 address"),
        ("0.0.0.0", "hash:ip", "address of zeros"),
        ("10.0.0.0/8", "hash:ip", "use a type with prefixes"),
        ("192.0.2.1 nomatch", "hash:ip", "nomatch is for types with prefixes"),
        ("192.0.2.1", "hash:ip,port", "is like 192.0.2.1,tcp:80"),
        ("192.0.2.1,tcp:80", "hash:net", "is like 192.0.2.1"),
        ("192.0.2.1,icmp:80", "hash:ip,port", "allowed are tcp, udp"),
        ("192.0.2.1,tcp:70000", "hash:ip,port", "a port is a number from 0 to 65535"),
        ("http", "bitmap:port", "a port is a number"),
        ("192.0.2.1 timeout soon", "hash:net", "timeout SECONDS"),
        ('192.0.2.1 comment "no end', "hash:net", "not closed"),
        ("192.0.2.1 please", "hash:net", "nomatch, timeout SECONDS"),
        ("192.0.2.1; reboot", "hash:net", "after the address stand"),
    ],
)
def test_a_wrong_entry_is_named_with_its_place_and_what_is_allowed(line: str, kind: str, says: str) -> None:
    with pytest.raises(ContentError, match="entries 2: ") as caught:
        set_content.parse(["# first", line], KINDS[kind], 32)
    assert says in str(caught.value)


def test_many_wrong_entries_are_not_all_told() -> None:
    with pytest.raises(ContentError) as caught:
        set_content.parse(["x"] * 100, NET, 32)
    assert str(caught.value).count("entries") == 5 and "perhaps more" in str(caught.value)


@pytest.mark.parametrize("second", ["192.0.2.1 nomatch", '192.0.2.1 comment "b"'])
def test_an_entry_that_contradicts_itself_is_refused(second: str) -> None:
    with pytest.raises(ContentError, match="a second time"):
        nets('192.0.2.1 comment "a"', second)


def test_comments_and_empty_lines_are_left_out_and_doubles_once() -> None:
    assert nets("", "  ", "# a", "192.0.2.1 # b", "192.0.2.1", "192.0.2.1/32").members == nets("192.0.2.1").members


def test_long_list_of_plain_addresses_is_read_as_one_with_other_words() -> None:
    lines = [str(ipaddress.IPv4Address(0x0A000000 + 7 * number)) for number in range(2000)]
    for kind in (NET, IP):
        quick = set_content.parse(lines, kind, 32)
        assert quick == set_content.parse([*lines, " "], kind, 32)
        assert len(quick.members) == 2000
    six = [str(ipaddress.IPv6Address((0x20010DB8 << 96) + 7 * number)) for number in range(200)]
    assert set_content.parse(six, IP, 128) == set_content.parse([*six, ""], IP, 128)


_LINES = st.one_of(
    st.tuples(
        st.just("hash:net"), st.ip_addresses(v=4).map(str), st.sampled_from(["", " nomatch", ' comment "a b"', " timeout 9"])
    ),
    st.tuples(st.just("hash:ip"), st.ip_addresses(v=4).filter(int).map(str), st.sampled_from(["", " timeout 9"])),
    st.tuples(
        st.just("hash:net,port"), st.ip_addresses(v=4).map(lambda one: f"{one}/9,udp:53"), st.sampled_from(["", " nomatch"])
    ),
    st.tuples(st.just("bitmap:port"), st.integers(0, 65535).map(str), st.sampled_from(["", " timeout 9"])),
)


@given(st.lists(_LINES, max_size=6))
def test_records_give_back_what_was_encoded(lines: list[tuple[str, str, str]]) -> None:
    for kind in {one[0] for one in lines}:
        texts = {one[1]: one[2] for one in lines if one[0] == kind}
        try:
            content = set_content.parse([key + more for key, more in texts.items()], KINDS[kind], 32)
        except ContentError:
            continue  # two prefixes that are one, with other words
        assert set_records.decode(set_records.encode(content), KINDS[kind], 32) == content
        again = set_content.parse(set_content.lines_of(content.members, content), KINDS[kind], 32)
        assert again == content


def test_size_leaves_room_and_needs_no_split() -> None:
    small = Wanted("x", nets("192.0.2.1"))
    assert set_plan.size(small) == (1024, 65536)
    large = Wanted("x", Content(IP, 32, list(range(1, 1_000_001))))
    hashsize, maxelem = set_plan.size(large)
    assert maxelem == 1_250_000 and hashsize >= maxelem // 2 and hashsize & (hashsize - 1) == 0
    assert set_plan.size(Wanted("x", nets("192.0.2.1"), maxelem=10, hashsize=100)) == (128, 10)


def test_what_stays_keeps_its_counters_and_the_time_it_has_left() -> None:
    old = nets("192.0.2.1 timeout 40", "192.0.2.2 timeout 50")
    for number, member in enumerate(old.members, 7):
        old.extras[member] = set_content.Extra(timeout=old.extras[member].timeout, packets=number, bytes=number * 100)
    wanted = Wanted("x", nets("192.0.2.2", "192.0.2.3"), timeout=600, counters=True)
    made = set_plan.plan(present(old, timeout=600, counters=True), wanted, 10)
    assert made.counts == {"added": 1, "removed": 1, "updated": 0}
    kept, fresh = (made.content.extras[member] for member in made.content.members)
    assert (kept.packets, kept.bytes, kept.timeout) == (8, 800, 50)
    assert (fresh.packets, fresh.timeout) == (0, 600)


def test_comment_of_an_entry_is_a_difference_and_a_full_set_too() -> None:
    assert "comments" in " ".join(reasons(nets('192.0.2.1 comment "a"'), nets('192.0.2.1 comment "b"')))
    full = Present("hash:net", 32, nets("192.0.2.1"), maxelem=1)
    assert "maxelem is 1" in " ".join(set_plan.plan(full, Wanted("x", nets("192.0.2.1", "192.0.2.3")), 1).reasons)


def test_another_type_is_refused() -> None:
    with pytest.raises(SetsError, match="type hash:ip, family inet"):
        set_plan.plan(Present("hash:ip", 32, None), Wanted("x", nets("192.0.2.1")), 1)


def test_difference_shows_counts_and_the_first_entries() -> None:
    old, new = nets("10.0.0.0/8"), nets(*(f"192.0.2.{number}" for number in range(0, 40, 2)))
    shown = set_plan.difference("x", present(old), set_plan.plan(present(old), Wanted("x", new), 2))
    assert shown["before"] == "set x: hash:net inet, 1 entries\n10.0.0.0/8\n"
    assert shown["after"] == "set x: hash:net inet, 20 entries\n192.0.2.0\n192.0.2.2\n... and 18 more\n"


def test_digest_is_of_the_entries_that_stay_in_any_order() -> None:
    one, other, timed = (
        set_records.encode(nets(*lines)) for lines in (["192.0.2.1", "10.0.0.0/8"], ["192.0.2.2"], ["192.0.2.9 timeout 5"])
    )
    both = ipset.Entries.of(one.data + other.data)
    assert ipset_state.digest(both) == ipset_state.digest(ipset.Entries.of(other.data + one.data))
    assert ipset_state.digest(both) == ipset_state.digest(ipset.Entries.of(both.data + timed.data))
    assert ipset_state.digest(both) != ipset_state.digest(one)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (["192.0.2.3", "192.0.2.1", "192.0.2.7"], False),
        (["192.0.2.1", "192.0.2.3"], True),
        (["192.0.2.1", "192.0.2.3", "192.0.2.8"], True),
        (["192.0.2.2", "192.0.2.3", "192.0.2.6"], True),  # the same sum
        (["192.0.2.1", "192.0.2.3", "192.0.2.7", "192.0.2.9"], True),
    ],
)
def test_entries_read_again_are_held_against_the_wanted_ones(other: list[str], differs: bool) -> None:
    wanted, found = (
        b"".join(set_records.encode(set_content.parse([line], IP, 32)).data for line in lines)
        for lines in (["192.0.2.1", "192.0.2.3", "192.0.2.7"], other)
    )
    assert set_records.differ(ipset.Entries.of(found), ipset.Entries.of(wanted), 32) == differs
