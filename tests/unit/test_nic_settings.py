# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of NICs, irqbalance's policy, and the programs that the boot runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.module_utils._kernel import ethtool_netlink, netlink
from ansible_collections.netops.fleet.plugins.module_utils._safety import journal, nic_objects, objects, portable
from ansible_collections.netops.fleet.plugins.module_utils._tuning import irq, irqbalance, nic, nic_plan
from ansible_collections.netops.fleet.plugins.module_utils._tuning.change import ChangeError
from ansible_collections.netops.fleet.plugins.module_utils._tuning.nic_plan import Nic, Rule

FAST = Nic(
    "ens1",
    "mlx5_core",
    {
        "channels.combined": "63",
        "rings.rx": "1024",
        "rings.tx": "1024",
        "coalesce.rx-usecs": "8",
        "features.rx-gro": "on",
        "features.rx-lro": "off",
        "features.highdma": "on",
        "txqueuelen": "1000",
    },
    {"channels.combined": 63, "rings.rx": 8192, "rings.tx": 8192},
    frozenset({"highdma"}),
    cores=56,
)
VIRTIO = Nic("eth0", "virtio_net", {"channels.combined": "1"}, {"channels.combined": 4}, cores=2)


def plan(nics: list[Nic], interrupt: bool, **wants: str) -> dict[str, tuple[str, str]]:
    rule = Rule(("*",), {name.replace("__", ".").replace("_", "-"): value for name, value in wants.items()})
    return {item.setting: (item.action, item.wanted) for item in nic_plan.make(nics, [rule], interrupt)}


def test_values_are_the_driver_s_own_words() -> None:
    found = plan([FAST], True, channels__combined="auto", rings__rx="max", rings__tx="1024", coalesce__rx_usecs="8")
    assert found == {
        "channels.combined": ("set", "56"),
        "coalesce.rx-usecs": ("none", "8"),
        "rings.rx": ("set", "8192"),
        "rings.tx": ("none", "1024"),
    }
    assert plan([VIRTIO], False, channels__combined="auto") == {"channels.combined": ("set", "2")}


def test_what_stops_traffic_waits_for_leave() -> None:
    items = nic_plan.make([FAST], [Rule(("*",), {"rings.rx": "max", "features.rx-lro": "on", "txqueuelen": "5"})], False)
    assert [(item.setting, item.action) for item in items] == [
        ("features.rx-lro", "skip"),
        ("rings.rx", "skip"),
        ("txqueuelen", "set"),
    ]
    assert all("interrupt: true" in item.why for item in items if item.action == "skip")
    assert plan([FAST], False, features__rx_gro="off") == {"features.rx-gro": ("set", "off")}


def test_what_cannot_be_is_skipped_or_refused() -> None:
    items = nic_plan.make(
        [FAST, VIRTIO], [Rule(("*",), {"rings.rx": "9000", "features.highdma": "off", "coalesce.rx-usecs": "1"})], True
    )
    found = {(item.nic, item.setting): (item.action, item.why) for item in items}
    assert found["ens1", "rings.rx"] == ("refuse", "ens1 rings.rx is to be 9000; the driver takes at most 8192")
    assert found["ens1", "features.highdma"][0] == "skip" and "does not let" in found["ens1", "features.highdma"][1]
    assert found["eth0", "rings.rx"] == ("skip", "driver virtio_net has no rings.rx")


def test_later_rules_beat_earlier_ones_and_patterns_choose() -> None:
    rules = [Rule(("*",), {"txqueuelen": "1", "rings.rx": "1"}), Rule(("driver:mlx5*",), {"txqueuelen": "2"})]
    found = {item.setting: item.wanted for item in nic_plan.make([FAST], rules, True)}
    assert found == {"txqueuelen": "2", "rings.rx": "1"}
    assert nic_plan.chosen("ens1", "ice", ("ens*",)) and not nic_plan.chosen("eth0", None, ("driver:ice", "ens*"))


def options(**given: Any) -> nic.Options:
    rule = {"match": ["*"], "channels": {}, "rings": {}, "coalesce": {}, "features": {}, "txqueuelen": None, **given}
    return nic.Options.from_params({"nics": [rule], "reserve": "", "interrupt": False, "persist": True})


def test_a_timer_must_be_of_use() -> None:
    given = {"nics": [], "reserve": "", "interrupt": True, "persist": True}
    assert nic.Options.from_params({**given, "deadman": 60}).deadman == 60
    with pytest.raises(ChangeError, match="deadman is 5; allowed are 0 and 10 to 3600 seconds"):
        nic.Options.from_params({**given, "deadman": 5})


def test_options_in_every_spelling() -> None:
    found = options(rings={"rx": "max"}, coalesce={"adaptive_rx": True, "rx-usecs": 5}, features={"gro": False, "rx-lro": "on"})
    assert found.rules[0].wants == {
        "rings.rx": "max",
        "coalesce.adaptive-rx": "1",
        "coalesce.rx-usecs": "5",
        "features.rx-gro": "off",
        "features.rx-lro": "on",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rings": {"rx": -1}}, r"nics\[1\].rings.rx is -1; allowed are numbers and max"),
        ({"rings": {"rx": True}}, "allowed are numbers"),
        ({"rings": {"rx": "auto"}}, "allowed are numbers and max"),
        ({"channels": {"all": 3}}, "all is not one of rx, tx, other, combined"),
        ({"coalesce": {"adaptive-rx": 7}}, "allowed are true and false"),
        ({"features": {"gro": "maybe"}}, "allowed are true and false"),
        ({"txqueuelen": -1}, "allowed are 0 to 1000000"),
    ],
)
def test_options_that_nobody_means(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ChangeError, match=said):
        options(**given)


def test_options_of_the_placement() -> None:
    good = {"nics": ["*"], "reserve": "0-1", "irqbalance": "ban", "rps": "auto", "rfs": True, "arfs": False, "xps": "auto"}
    assert irq.Options.from_params({**good, "persist": True}).reserve == "0-1"
    for wrong in ({"reserve": "3-1"}, {"nics": ["driver:"]}, {"nics": [""]}):
        with pytest.raises(ChangeError, match="allowed"):
            irq.Options.from_params({**good, "persist": True, **wrong})


# ---- irqbalance

CAT = """# /lib/systemd/system/irqbalance.service
[Service]
EnvironmentFile=-/etc/default/irqbalance
ExecStart=/usr/sbin/irqbalance --foreground $IRQBALANCE_ARGS

# /etc/systemd/system/irqbalance.service.d/netops-fleet.conf
[Service]
ExecStart=
ExecStart=/usr/sbin/irqbalance --policyscript=/etc/netops-fleet-irqbalance
"""


def test_the_unit_s_command_is_read_without_ours() -> None:
    assert irqbalance.exec_start(CAT) == "/usr/sbin/irqbalance --foreground $IRQBALANCE_ARGS"
    assert irqbalance.exec_start("") is None


@pytest.mark.parametrize(
    ("words", "script"),
    [
        ("/usr/sbin/irqbalance --policyscript=/etc/mine", "/etc/mine"),
        ("/usr/sbin/irqbalance -l /etc/mine", "/etc/mine"),
        ("/usr/sbin/irqbalance --policyscript /etc/netops-fleet-irqbalance", None),
        ("/usr/sbin/irqbalance --foreground", None),
    ],
)
def test_a_policy_script_that_is_not_ours(words: str, script: str | None) -> None:
    assert irqbalance.policy_script(words) == script


@settings(max_examples=10, deadline=None)
@given(st.sets(st.from_regex(r"\A[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z"), min_size=1, max_size=4))
def test_the_policy_bans_these_devices_and_no_other(homes: set[str]) -> None:
    script = irqbalance.wanted("/usr/sbin/irqbalance", homes)["script"]
    for path, banned in [(f"/sys/bus/pci/devices/{home}", True) for home in homes] + [("/sys/devices/x", False)]:
        said = subprocess.run(["sh", "-c", script, "policy", path, "45"], capture_output=True, text=True, check=True)
        assert said.stdout == ("ban=true\n" if banned else "")


def test_an_address_that_is_none_cannot_become_a_command() -> None:
    assert "evil" not in irqbalance.wanted("/usr/sbin/irqbalance", {"$(evil)", "0000:00:03.0"})["script"]


def test_policies() -> None:
    other = irqbalance.Found(7, "/usr/sbin/irqbalance", "/etc/mine")
    assert irqbalance.changes("keep", other, ())[1] == [
        "irqbalance runs (pid 7) and will move what is placed here: ban or stop it"
    ]
    assert "has a policy script already, /etc/mine" in irqbalance.changes("ban", other, ("0000:00:03.0",))[2][0]
    assert irqbalance.changes("ban", irqbalance.Found(), ()) == ([], [], [])
    assert "without a systemd unit" in irqbalance.changes("stop", irqbalance.Found(7), ())[2][0]


# ---- what the boot runs


@pytest.mark.parametrize("program", [irq, nic], ids=["irq", "nic"])
def test_the_boot_s_program_needs_only_python(program: Any, tmp_path: Path) -> None:
    path = tmp_path / "program.pyz"
    path.write_bytes(portable.build(program.__name__))
    bare = {"PATH": "/usr/bin", "HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-I", str(path), "--folder", str(tmp_path)], capture_output=True, text=True, env=bare, check=False
    )
    assert said.returncode == 1 and "holds no options; run the module first" in said.stderr
    wanted = "cli, deadman, files, lock, portable, release, rollback"
    late = f"from ansible_collections.netops.fleet.plugins.module_utils._safety import {wanted}"
    code = f"import sys; sys.path.insert(0, {str(path)!r}); {late}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd=tmp_path, env=bare)


def test_units_hold_no_number_of_an_interrupt() -> None:
    for again in (irq.AGAIN, nic.AGAIN):
        texts = [str(one.after.get("text", "")) for one in again.changes("/var/lib/x") if one.after is not None]
        assert any(f"ExecStart={sys.executable} /var/lib/x/{again.program} --folder /var/lib/x" in text for text in texts)
        assert any("OnActiveSec" in text for text in texts)
        rules = next(text for text in texts if "SUBSYSTEM" in text)
        assert f"restart {again.unit}.timer" in rules and 'DEVPATH!="/devices/virtual/*"' in rules
        assert json.dumps(texts).count("smp_affinity") == 0


# ---- sets of bits, as the kernel sends features


def test_bits_by_name() -> None:
    bits = [(1, [(1, 3), (2, "rx-gro"), (3, b"")]), (1, [(1, 4), (2, "rx-lro")])]
    masked = netlink.pack([(2, 64), (3, bits)])  # type: ignore[list-item]
    assert ethtool_netlink._bits(masked) == {"rx-gro"}
    plain = netlink.pack([(1, b""), (2, 64), (3, [(1, [(1, 3), (2, "rx-gro")])])])
    assert ethtool_netlink._bits(plain) == {"rx-gro"}
    assert ethtool_netlink._bits(b"") == set()


@pytest.mark.parametrize("name", ["", "eth0", "../x txqueuelen", "a/b txqueuelen", ". txqueuelen", "eth0 what.x"])
def test_names_that_are_no_setting(name: str) -> None:
    with pytest.raises(ValueError):
        nic_objects.capture_nic(name)


def test_settings_that_return_need_confirmation_as_those_that_are_set_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What restarts the queues, or is of a NIC that is not known any more; not what is the kernel's alone."""
    before = {"ens1 rings.rx": "512", "ens1 features.rx-gro": "off", "ens1 txqueuelen": "500", "ens9 channels.combined": "4"}
    now = {"ens1 rings.rx": "1024", "ens1 features.rx-gro": "on", "ens1 txqueuelen": "1000", "ens9 channels.combined": "2"}
    kind = objects.Kind(lambda name: {"value": now[name]}, lambda _name, _state: None, lambda one, other: one == other)
    # Not in KINDS: what other tests met before is remembered.
    real = objects.known
    monkeypatch.setattr(objects, "known", lambda name: kind if name == "nic" else real(name))
    monkeypatch.setattr(nic.topology, "read", lambda: SimpleNamespace(gaps=[]))
    monkeypatch.setattr(nic, "read", lambda _shape, _reserve: [FAST])
    found = journal.Journal(str(tmp_path / "journal"))
    writes = [(objects.Object("nic", name), {"value": before[name]}, {"value": now[name]}) for name in before]
    found.done(found.begin(nic.OWNER, writes))
    back = nic.study(nic.Options(), found).changes
    assert {change.target.name: change.cuts for change in back} == {
        "ens1 rings.rx": True,
        "ens1 features.rx-gro": False,
        "ens1 txqueuelen": False,
        "ens9 channels.combined": True,
    }
