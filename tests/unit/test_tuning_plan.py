# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buffers, profiles, the plan and adaptive decisions: plain data in, plain data out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._kernel import parameters
from ansible_collections.netops.fleet.plugins.module_utils._safety.objects import Object
from ansible_collections.netops.fleet.plugins.module_utils._tuning import (
    adapt,
    bdp,
    boot_order,
    limits,
    profiles,
    sysctl_plan,
    tune,
)

MIB = 1 << 20
GIB = 1 << 30


# --- buffers


@pytest.mark.parametrize(
    ("mbit", "rtt_ms", "wanted"),
    [
        (10_000, 0.1, 125_000),
        (25_000, 1, 3_125_000),
        (100_000, 10, 125_000_000),
        (400_000, 0.2, 10_000_000),
        (400_000, 100, 5_000_000_000),
    ],
)
def test_product(mbit: float, rtt_ms: float, wanted: int) -> None:
    assert bdp.product(mbit, rtt_ms) == wanted


def buffer(*paths: tuple[float, float], flows: int = 4, memory: int = 256 * GIB, original: int = 6 * MIB) -> bdp.Buffer:
    found = [bdp.Path(f"path {number}", rtt, mbit) for number, (mbit, rtt) in enumerate(paths)]
    floor = bdp.floor_maximum((6, 1), memory, False)
    return bdp.plan(found, flows, 1000, floor, 131072, (memory // 16, "1/16"), original)


def test_inside_a_data_centre_the_kernels_default_is_enough() -> None:
    found = buffer((10_000, 0.2))
    assert found.maximum == 6 * MIB and "no larger buffer is needed" in found.why


def test_the_buffer_is_twice_the_product() -> None:
    found = buffer((100_000, 1))
    assert 25_000_000 <= found.maximum < 25_000_000 + 65536
    assert "2 * 100000 Mbit/s * 1 ms" in found.why


def test_the_memory_bounds_it_and_never_below_the_default() -> None:
    found = buffer((100_000, 50), flows=256, memory=64 * GIB)
    assert found.maximum == 64 * GIB // 16 // 256
    assert found.notes and "256 flows" in found.notes[0]
    small = buffer((100_000, 50), flows=100_000, memory=64 * GIB)
    assert small.maximum == 6 * MIB


def test_one_flow_cannot_fill_every_path() -> None:
    found = buffer((400_000, 100), flows=1, memory=4096 * GIB)
    assert found.maximum <= parameters.INT_MAX
    assert "at least 5 flows" in found.notes[0]


def test_what_was_there_is_not_lowered() -> None:
    assert buffer((10_000, 1), original=64 * MIB).maximum == 64 * MIB


def test_without_a_round_trip_nothing_is_computed() -> None:
    found = buffer()
    assert found.maximum == 6 * MIB and "no round trip" in found.why


def test_the_kernels_own_default() -> None:
    assert bdp.floor_maximum((6, 18), 24 * GIB, False) == 32 * MIB
    assert bdp.floor_maximum((6, 1), 24 * GIB, False) == 6 * MIB
    assert bdp.floor_maximum((6, 18), 24 * GIB, True) == 4 * MIB
    assert bdp.floor_maximum((6, 18), 128 * MIB, False) == MIB


@given(
    st.lists(st.tuples(st.floats(1, 800_000), st.floats(0.01, 500)), max_size=4),
    st.integers(1, 100_000),
    st.integers(1, 1_000_000),
    st.integers(64 * MIB, 4096 * GIB),
    st.integers(4096, parameters.INT_MAX),
)
def test_every_buffer_is_valid_and_never_below_the_default(
    paths: list[tuple[float, float]], flows: int, connections: int, memory: int, original: int
) -> None:
    floor = bdp.floor_maximum((6, 12), memory, False)
    found = bdp.plan(
        [bdp.Path("p", rtt, mbit) for mbit, rtt in paths], flows, connections, floor, 131072, (memory // 16, ""), original
    )
    assert max(floor, original) <= found.maximum <= parameters.INT_MAX
    assert 131072 <= found.start <= MIB
    triple = f"4096 {min(found.start, found.maximum)} {found.maximum}"
    assert parameters.check("net.ipv4.tcp_rmem", triple, None) is None


# --- profiles

ORIGINALS: dict[str, str | None] = {
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_rmem": "4096 131072 6291456",
    "net.ipv4.tcp_wmem": "4096 16384 4194304",
    "net.ipv4.tcp_max_syn_backlog": "2048",
    "fs.file-max": "9223372036854775807",
    "net.ipv4.ip_local_port_range": "1024 60999",
}


def facts(**more: object) -> profiles.Facts:
    base = profiles.Facts(dict(ORIGINALS), 64 * GIB, link_mbit=100_000, paths=[bdp.Path("peers", 0.2, 100_000)])
    for name, value in more.items():
        setattr(base, name, value)
    return base


def values(wanted: profiles.Wanted) -> dict[str, str]:
    return {want.name: want.value for want in wanted.wants}


@pytest.mark.parametrize("profile", [name for name in profiles.NAMES if name != "own"])
@pytest.mark.parametrize("connections", [None, 100, 60_000, 2_000_000])
def test_every_value_of_every_profile_is_allowed_and_explained(profile: str, connections: int | None) -> None:
    made = profiles.make(profile, facts(connections=connections, conntrack=True, congestion=["bbr"], qdisc=["fq"]))
    found = values(made)
    assert len(found) == len(made.wants) >= 30, "a key is wanted twice, or hardly any is"
    for want in made.wants:
        assert parameters.check(want.name, want.value, None) is None
        assert len(want.why) > 10 and want.source
    assert parameters.conflicts(found) == []
    assert found["net.core.somaxconn"] == "65535"
    assert found["net.ipv4.tcp_timestamps"] == "1" and found["net.ipv4.tcp_tw_reuse"] == "1"
    assert found["fs.file-max"] == "9223372036854775807", "what was larger is not lowered"
    assert "net.ipv4.tcp_tw_recycle" not in found


def test_the_plan_of_a_tuned_host_is_the_plan_of_the_untouched_host() -> None:
    """Facts hold originals, so a second run wants the same."""
    made = profiles.make("gateway", facts(connections=60_000))
    again = profiles.make("gateway", facts(connections=60_000))
    assert made == again
    assert values(made)["net.ipv4.ip_local_port_range"] == "1024 65535", "a wider range than ours is kept"


def test_bbr_only_far_and_only_where_it_is_available() -> None:
    far = [bdp.Path("far", 40, 10_000)]
    with_bbr = values(profiles.make("gateway", facts(paths=far, congestion=["reno", "bbr"], qdisc=["fq"])))
    assert with_bbr["net.ipv4.tcp_congestion_control"] == "bbr" and with_bbr["net.core.default_qdisc"] == "fq"
    without = profiles.make("gateway", facts(paths=far, congestion=["reno", "cubic"]))
    assert "net.ipv4.tcp_congestion_control" not in values(without)
    assert any("does not offer it" in note for note in without.notes)
    near = values(profiles.make("gateway", facts(congestion=["bbr"])))
    assert "net.ipv4.tcp_congestion_control" not in near


def test_own_sets_nothing_but_declared_buffers() -> None:
    assert profiles.make("own", facts(paths=[])).wants == []
    assert set(values(profiles.make("own", facts()))) == {
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
        "net.core.rmem_max",
        "net.core.wmem_max",
        "net.ipv4.tcp_moderate_rcvbuf",
        "net.ipv4.tcp_window_scaling",
    }


def test_a_profile_of_ones_own_computes_the_parts_it_names_and_no_others() -> None:
    own = values(profiles.make("own", facts(paths=[], parts=("lifetimes", "streaming"), keepalive=(120, 15, 4))))
    assert own["net.ipv4.tcp_keepalive_time"] == "120" and own["net.ipv4.tcp_keepalive_probes"] == "4"
    assert "net.ipv4.tcp_notsent_lowat" in own and "net.core.somaxconn" not in own
    # All that a built-in profile has beside its buffers is in the parts it names.
    for profile in ("inference", "training", "gateway", "storage"):
        theirs = profiles.make(profile, facts(paths=[], conntrack=True, connections=10_000, flows=64))
        use = profiles.USES[profile]
        ours = facts(paths=[], conntrack=True, connections=10_000, flows=64, parts=use.parts, keepalive=use.keepalive)
        buffers = {"tcp_rmem", "tcp_wmem", "rmem_max", "wmem_max", "tcp_moderate_rcvbuf", "tcp_window_scaling"}
        rest = {name: value for name, value in values(theirs).items() if name.rpartition(".")[2] not in buffers}
        assert values(profiles.make("own", ours)) == rest


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"profile": "inference", "parts": ["queues"]}, "it goes with profile own"),
        ({"keepalive": [60, 10]}, "it takes three numbers"),
        ({"keepalive": [60, 10, 128]}, "it takes three numbers"),
        ({"keepalive": [0, 10, 6]}, "it takes three numbers"),
    ],
)
def test_options_of_a_profile_that_are_wrong(given: dict[str, object], told: str) -> None:
    params = {name: spec.get("default") for name, spec in tune.ARGUMENTS.items()}
    with pytest.raises(tune.TuneError, match=told):
        tune.Options.from_params({**params, **given})


def test_connection_tracking_only_where_it_is() -> None:
    assert not any("conntrack" in name for name in values(profiles.make("gateway", facts())))
    found = values(profiles.make("gateway", facts(conntrack=True, connections=100_000)))
    assert found["net.netfilter.nf_conntrack_max"] == found["net.netfilter.nf_conntrack_buckets"] == "524288"


# --- the plan


def plan(present: dict[str, str | None], wanted: dict[str, str], **more: object) -> sysctl_plan.Plan:
    wants = sysctl_plan.merge([], wanted)
    found = sysctl_plan.Present(present)
    for name, value in more.items():
        setattr(found, name, value)
    boot = boot_order.Boot()
    boot_order.add(boot, sysctl_plan.render(found, wants)[0], sysctl_plan.FILE)
    return sysctl_plan.make(found, boot, wants, None, None)


def names(made: sysctl_plan.Plan) -> list[str]:
    return [change.target.name for change in made.changes]


def test_tabs_and_spaces_are_no_difference() -> None:
    made = plan({"net.ipv4.tcp_rmem": "4096\t131072\t6291456"}, {"net.ipv4.tcp_rmem": "4096 131072  6291456"})
    assert names(made) == [sysctl_plan.FILE]


def test_a_key_that_cannot_be_written_is_skipped_with_the_reason_unless_it_is_right_already() -> None:
    keys = {"net.core.rmem_max": "212992"}
    made = plan(dict(keys), {"net.core.rmem_max": "1000000"}, unwritable={"net.core.rmem_max": "read-only"})
    assert made.items[0].action == "skip" and "read-only" in made.items[0].reason and made.changes == []
    made = plan(dict(keys), keys, unwritable={"net.core.rmem_max": "read-only"})
    assert made.items[0].action == "none" and names(made) == [sysctl_plan.FILE]


def test_keys_of_a_loadable_module_are_applied_when_it_comes() -> None:
    key = "net.netfilter.nf_conntrack_max"
    made = plan({key: "65536"}, {key: "131072"}, modules=frozenset({"nf_conntrack"}))
    rules = next(change for change in made.changes if change.target == Object("file", sysctl_plan.RULES))
    assert rules.after is not None and 'KERNEL=="nf_conntrack"' in rules.after["text"]
    built_in = plan({key: "65536"}, {key: "131072"})
    assert sysctl_plan.RULES not in names(built_in)
    absent = plan({key: None}, {key: "131072"})
    assert absent.items[0].action == "skip" and "nf_conntrack, which is not loaded" in absent.items[0].reason


def test_an_alias_is_the_same_key() -> None:
    assert tune._settings({"net.nf_conntrack_max": 65536}) == {"net.netfilter.nf_conntrack_max": "65536"}
    assert tune._settings({"net/ipv4/tcp_rmem": [4096, 131072, 6291456]}) == {"net.ipv4.tcp_rmem": "4096 131072 6291456"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"net.ipv4.tcp_sack": True}, "write 1 or 0"),
        ({"net.ipv4.tcp_sack": 1.5}, "takes a number"),
        ({"net.ipv4.conf.*.rp_filter": 1}, "patterns are not allowed"),
        ({"net.ipv4.../etc": 1}, "is no kernel parameter"),
        ({"": 1}, "is no kernel parameter"),
        ({"net.ipv4.tcp_sack": "1\nkernel.x = 2"}, "control character"),
        ({"net.ipv4.tcp_sack": 1, "net/ipv4/tcp_sack": 0}, "given twice"),
    ],
)
def test_settings_that_are_none(given: dict[str, object], told: str) -> None:
    with pytest.raises(tune.TuneError, match=told):
        tune._settings(given)


def test_neighbour_tables_must_rise() -> None:
    base = {f"net.ipv4.neigh.default.gc_thresh{number}": str(number * 1024) for number in (1, 2, 3)}
    assert parameters.conflicts(base) == []
    assert "must rise" in parameters.conflicts({**base, "net.ipv4.neigh.default.gc_thresh1": "8192"})[0]
    assert parameters.conflicts({"fs.nr_open": "1048576", "fs.file-max": "96477"}) == [], "a small machine, untouched"
    assert "above fs.file-max" in parameters.conflicts({"fs.nr_open": "2097152", "fs.file-max": "96477"})[0]


# --- limits


def test_limits_files_and_reports() -> None:
    files = limits.wanted_files(65536, ["nginx", "model@1.service"], True)
    assert files["/etc/systemd/system/nginx.service.d/50-netops-fleet.conf"].endswith("[Service]\nLimitNOFILE=65536\n")
    assert "/etc/systemd/system/model@1.service.d/50-netops-fleet.conf" in files
    assert "root hard nofile 65536\n" in files[limits.PAM]
    with pytest.raises(ValueError, match="no systemd service"):
        limits.wanted_files(65536, ["../x"], False)
    assert "above fs.nr_open" in str(limits.check(2_000_000, 1_048_576))


def test_the_sentence_an_operator_acts_on() -> None:
    listeners = [
        {"proto": "tcp", "backlog": 511, "port": 80, "process": "nginx", "unit": "nginx.service", "pid": 7},
        {"proto": "tcp", "backlog": 65535, "port": 81, "process": "x", "unit": None, "pid": 8},
    ]
    found = limits.old_backlogs(listeners, 4096, 65535)
    assert len(found) == 1
    assert found[0]["text"].startswith("restart nginx to get backlog 65535: it listens with 511")
    assert limits.soft_nofile("Limit  Soft\nMax open files            1024                 4096                 files\n") == 1024


# --- adaptive buffers


def sample(free: float = 0.9, bytes_per_s: float = 1e9, packet: int = 1448, pressure: bool = False) -> adapt.Sample:
    return adapt.Sample(1.0, int(bytes_per_s / packet), int(bytes_per_s), free, pressure)


def test_the_weights_are_the_documents() -> None:
    assert adapt.WEIGHTS == {"packet_size": 0.30, "arrival_rate": 0.50, "memory": 0.20}
    assert adapt.load(sample(free=1.0, bytes_per_s=1.25e9), 10_000) == pytest.approx(1.0, abs=0.001)
    assert adapt.load(sample(free=0.5, bytes_per_s=0.625e9, packet=724), 10_000) == pytest.approx(0.15 + 0.25 + 0.10, abs=0.01)
    assert adapt.load(adapt.Sample(1.0, 0, 0, 1.0), 10_000) == pytest.approx(0.20)


def steps(samples: list[adapt.Sample], present: int = 8 * MIB, low: int = 6 * MIB, high: int = 64 * MIB) -> list[int]:
    """The maximum after each sample."""
    state, out = adapt.State(), []
    for one in samples:
        score = adapt.load(one, 10_000)
        state, action = adapt.remember(adapt.State.from_dict(state.to_dict()), one, score)
        present = adapt.decide(action, one, score, present, low, high).value
        out.append(present // MIB)
    return out


def test_it_doubles_when_memory_is_free_and_traffic_asks_twice() -> None:
    assert steps([sample()] * 6) == [8, 16, 16, 16, 32, 32]


def test_one_sample_moves_nothing() -> None:
    assert steps([sample(), sample(bytes_per_s=0.0), sample(), sample(bytes_per_s=0.0)]) == [8, 8, 8, 8]


def test_it_shrinks_under_pressure_and_stays_within_bounds() -> None:
    assert steps([sample(free=0.2)] * 8)[-1] == 6
    assert steps([sample(pressure=True)] * 2, present=40 * MIB) == [40, 36]
    assert steps([sample()] * 40)[-1] == 64


def test_between_the_marks_nothing_moves() -> None:
    assert steps([sample(free=0.69)] * 10) == [8] * 10
    assert steps([sample(free=0.31)] * 10) == [8] * 10
    assert steps([sample(bytes_per_s=1e6)] * 10) == [8] * 10


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2e9), st.booleans()), max_size=30), st.integers(MIB, GIB))
def test_moves_end_within_the_bounds(found: list[tuple[float, float, bool]], present: int) -> None:
    state, low, high = adapt.State(), 6 * MIB, 64 * MIB
    moves = 0
    for free, rate, pressure in found:
        one = sample(free=free, bytes_per_s=rate, pressure=pressure)
        score = adapt.load(one, 10_000)
        state, action = adapt.remember(state, one, score)
        decision = adapt.decide(action, one, score, present, low, high)
        if decision.moved:
            moves += 1
            assert low <= decision.value <= high
        present = decision.value
    assert moves <= (len(found) + 2) // 3, "it moves more often than its rest allows"


def test_a_key_that_returns_is_seen_at_its_original() -> None:
    """Not at the value that it has while the plan is made."""
    stamps, reuse = "net.ipv4.tcp_timestamps", "net.ipv4.tcp_tw_reuse"

    def errors(present: dict[str, str | None], returning: dict[str, str], wanted: dict[str, str]) -> list[str]:
        wants = sysctl_plan.merge([], wanted)
        return sysctl_plan.make(
            sysctl_plan.Present(present), boot_order.Boot(), wants, None, None, persist=False, returning=returning
        ).errors

    assert errors({stamps: "1", reuse: "1"}, {}, {reuse: "1"}) == []
    (told,) = errors({stamps: "1", reuse: "1"}, {stamps: "0"}, {reuse: "1"})
    assert "needs time stamps" in told and f"{stamps} is wanted no longer and returns to 0" in told
    assert errors({stamps: "0", reuse: "1"}, {stamps: "1"}, {reuse: "1"}) == [], "it is about to be right"
    assert errors({stamps: "1", reuse: "0"}, {stamps: "0", reuse: "1"}, {"net.ipv4.tcp_sack": "1"}) == [], "as the host had it"
    pair = {"net.core.rmem_default": "500000", "net.core.rmem_max": "600000"}
    (told,) = errors({**pair}, {"net.core.rmem_max": "212992"}, {"net.core.rmem_default": "500000"})
    assert "net.core.rmem_default is 500000, above net.core.rmem_max 212992" in told
