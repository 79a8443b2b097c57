# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ipset with backend: nft against the kernel; nft(8) and packets are the witnesses."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Namespace, until

pytestmark = pytest.mark.kernel

_RUN = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_nft, set_plan, sets
from ansible_collections.netops.fleet.plugins.module_utils._safety import change
folder, given, check = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "check"
params = {name: spec.get("default") for name, spec in sets.ARGUMENTS.items()} | {"persist": False} | given
try:
    options = sets.Options.from_params(params)
    options.folder = folder
    print(json.dumps(sets.run(options, set_nft.NftSet.of(params["table"]), check)))
except (set_plan.SetsError, change.ChangeError) as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture
def run(ns: Namespace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def call(check: bool = False, **given: Any) -> dict[str, Any]:
        given = {"table": "inet filter", "backend": "nft", **given}
        answer: dict[str, Any] = ns.python_json(_RUN, str(tmp_path / "journal"), json.dumps(given), "check" if check else "run")
        return answer

    return call


def listed(ns: Namespace, name: str) -> str:
    """What nft says, without line breaks among elements and without remaining times."""
    text = ns.run(["nft", "list", "set", "inet", "filter", name]).stdout
    return " ".join(text.split())


def elements(ns: Namespace, name: str) -> list[str]:
    found = re.search(r"elements = \{ (.*?) \}", listed(ns, name))
    return sorted(found[1].split(", ")) if found else []


def journal(ns: Namespace, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folder = tmp_path / "journal"
    return ns.run(["python3", str(folder / "journal.pyz"), "--folder", str(folder), *words], check=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"entries": ["10.0.0.0/8", "10.1.0.0/16 nomatch"]}, ["10.0.0.0/16", "10.2.0.0-10.255.255.255"]),
        ({"entries": ["10.0.0.0/9", "10.128.0.0/9", "10.3.0.0/16"]}, ["10.0.0.0/8"]),
        ({"entries": ['10.0.0.0/8 comment "rack, 7"', "192.0.2.1"]}, ['10.0.0.0/8 comment "rack', "192.0.2.1", '7"']),
        ({"family": "inet6", "entries": ["2001:db8::/32", "fdc8:1324:5678:0::/64"]}, ["2001:db8::/32", "fdc8:1324:5678::/64"]),
        ({"type": "hash:ip", "entries": ["192.0.2.1-192.0.2.3"]}, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ({"type": "hash:ip,port", "entries": ["192.0.2.1,tcp:80-81"]}, ["192.0.2.1 . tcp . 80", "192.0.2.1 . tcp . 81"]),
        (
            {"type": "hash:net,port", "entries": ["10.0.0.0/8,tcp:22", "10.1.0.0/16,tcp:22 nomatch", "10.0.0.0/8,udp:53"]},
            ["10.0.0.0/16 . tcp . 22", "10.0.0.0/8 . udp . 53", "10.2.0.0-10.255.255.255 . tcp . 22"],
        ),
        ({"type": "bitmap:port", "entries": ["80", "8000-8001"]}, ["80", "8000", "8001"]),
        ({"entries": []}, []),
        ({"entries": ["0.0.0.0/0"]}, ["0.0.0.0/0"]),
    ],
)
def test_set_holds_what_was_wanted_and_a_second_run_changes_nothing(
    ns: Namespace, run: Callable[..., dict[str, Any]], given: dict[str, Any], expected: list[str]
) -> None:
    wished = run(check=True, name="wanted", **given)
    assert wished["changed"] and ns.run(["nft", "list", "ruleset"]).stdout == ""
    done = run(name="wanted", **given)
    assert done.get("changed"), done
    assert elements(ns, "wanted") == expected
    again = run(name="wanted", **given)
    assert not again["changed"], again


def test_a_set_with_auto_merge_that_nft_made_is_no_change(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    """nft lists what it merged; text would differ on each run."""
    held = "flags interval; auto-merge; elements = { 10.0.0.0/9, 10.128.0.0/9 }"
    ns.run(["nft", "-f", "-"], input=f"table inet filter {{ set w {{ type ipv4_addr; {held}; }}; }}")
    assert not run(name="w", entries=["10.0.0.0/8"])["changed"]
    assert run(name="w", entries=["10.0.0.0/8", "10.1.0.0/16 nomatch"], adopt=True)["changed"]
    assert elements(ns, "w") == ["10.0.0.0/16", "10.2.0.0-10.255.255.255"]


def test_content_changes_in_one_transaction_under_a_stream(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    one, other = (["127.0.0.1", *(f"10.{half}.{number >> 8}.{number & 255}" for number in range(0, 4000, 2))] for half in (0, 1))
    run(name="swap", entries=one)
    ns.run(
        ["nft", "-f", "-"],
        input="""
table inet filter {
  chain in {
    type filter hook input priority 0
    udp dport 9 ip saddr != @swap counter comment "lost"
    udp dport 9 counter comment "all"
  }
}
""",
    )
    stream = ns.start_python(
        """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready")
while True:
    try:
        sock.sendto(b"x", ("127.0.0.1", 9))
    except ConnectionRefusedError:
        pass
"""
    )
    for content in (other, one, other, one):
        assert run(name="swap", entries=content)["changed"]
    stream.kill()
    stream.wait()
    shown = ns.run(["nft", "list", "chain", "inet", "filter", "in"]).stdout
    counted = {found[2]: int(found[1]) for found in re.finditer(r'packets (\d+) bytes \d+ comment "(\w+)"', shown)}
    assert counted["lost"] == 0 and counted["all"] > 1000, counted


def test_timeouts_and_counters(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    run(name="t", entries=["192.0.2.7 timeout 500", "192.0.2.8"], timeout=3000, counters=True)
    assert "timeout 50m" in listed(ns, "t") and listed(ns, "t").count("expires") == 2
    assert not run(name="t", entries=["192.0.2.7 timeout 500", "192.0.2.8"], timeout=3000, counters=True)["changed"]
    done = run(name="t", entries=["192.0.2.7 timeout 500", "192.0.2.9"], timeout=3000, counters=True)
    assert done["counts"] == {"added": 1, "removed": 1, "updated": 0}


@pytest.mark.parametrize(
    ("ruleset", "given", "says"),
    [
        ("table inet filter { set x { type ipv4_addr; flags interval; }; }", {}, "was not made by this collection"),
        ("table inet filter { set x { type ipv4_addr; }; }", {}, "type hash:ip, family inet"),
        ("table inet filter { set x { type ipv4_addr; flags dynamic; }; }", {"adopt": True, "type": "hash:ip"}, "flags dynamic"),
        ("table inet filter { set x { type ether_addr; }; }", {}, "type ether_addr"),
        ("", {"table": "inet firewalld"}, "belongs to firewalld"),
        ("", {"table": "filter"}, "a family and a name"),
        ("", {"table": "inet a;b"}, "a family and a name"),
        ("", {"name": "1x"}, "starts with a letter"),
        ("", {"entries": ['10.0.0.0/8 comment "a"', "10.1.0.0/16"]}, "must not overlap"),
        ("", {"entries": ["10.0.0.0/8"], "timeout": 0}, "every entry ends"),
    ],
)
def test_refused_with_the_reason_and_nothing_changed(
    ns: Namespace, run: Callable[..., dict[str, Any]], ruleset: str, given: dict[str, Any], says: str
) -> None:
    ns.run(["nft", "-f", "-"], input=ruleset)
    before = ns.run(["nft", "list", "ruleset"]).stdout
    answer = run(**{"name": "x", "entries": ["192.0.2.1"], **given})
    assert says in answer.get("error", ""), answer
    assert ns.run(["nft", "list", "ruleset"]).stdout == before


def test_rolled_back_to_what_it_held(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    held = 'elements = { 10.0.0.0/8 comment "a, b", 192.0.2.4 }'
    ns.run(["nft", "-f", "-"], input=f"table inet filter {{ set x {{ type ipv4_addr; flags interval; {held}; }}; }}")
    before = listed(ns, "x")
    run(name="x", entries=["192.0.2.1"], adopt=True)
    run(name="x", entries=["192.0.2.2"])
    run(name="fresh", entries=["192.0.2.3"])
    assert elements(ns, "x") == ["192.0.2.2"]
    done = journal(ns, tmp_path, "rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert listed(ns, "x") == before
    assert "fresh" not in ns.run(["nft", "list", "ruleset"]).stdout


def test_definition_changes_only_while_no_rule_names_the_set(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    run(name="x", entries=["192.0.2.1"])
    assert run(name="x", entries=["192.0.2.1"], counters=True)["changed"]
    assert "counter packets" in listed(ns, "x")
    ns.run(["nft", "-f", "-"], input="table inet filter { chain in { type filter hook input priority 0; ip saddr @x accept; }; }")
    before = listed(ns, "x")
    answer = run(name="x", entries=["192.0.2.1"])
    assert "taken back" in answer["error"] and "busy" in answer["error"], answer
    assert listed(ns, "x") == before


def test_absent(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    assert not run(name="x", state="absent", entries=None)["changed"]
    run(name="x", entries=["192.0.2.1"])
    assert run(name="x", state="absent", entries=None)["changed"]
    assert ns.run(["nft", "list", "set", "inet", "filter", "x"], check=False).returncode != 0


def test_absent_is_refused_while_a_rule_names_the_set(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    run(name="x", entries=["192.0.2.1"])
    run(name="x-2", entries=["192.0.2.1"])
    ns.run(
        ["nft", "-f", "-"], input="table inet filter { chain in { type filter hook input priority 0; ip saddr @x-2 accept; }; }"
    )
    before = ns.run(["nft", "-a", "list", "ruleset"]).stdout
    answer = run(name="x-2", state="absent", entries=None)
    assert "x-2 is named by nft inet filter in handle" in answer["error"], answer
    assert ns.run(["nft", "-a", "list", "ruleset"]).stdout == before
    # One whose name only begins the same is not meant.
    assert run(name="x", state="absent", entries=None)["changed"]


def test_absent_that_is_not_confirmed_brings_the_set_back(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    run(name="x", entries=["192.0.2.1"])
    before = listed(ns, "x")
    gone = run(name="x", state="absent", entries=None, deadman=10)
    assert gone["confirm_within"] == 10
    assert ns.run(["nft", "list", "set", "inet", "filter", "x"], check=False).returncode != 0
    until(lambda: ns.run(["nft", "list", "set", "inet", "filter", "x"], check=False).returncode == 0, 60)
    assert listed(ns, "x") == before
