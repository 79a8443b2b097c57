# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ipset against the kernel; ipset(8) and packets are the witnesses."""

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
from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_ipset, set_plan, sets
from ansible_collections.netops.fleet.plugins.module_utils._safety import change
folder, given, check = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "check"
params = {name: spec.get("default") for name, spec in sets.ARGUMENTS.items()} | {"persist": False} | given
try:
    options = sets.Options.from_params(params)
    options.folder = folder
    print(json.dumps(sets.run(options, set_ipset.Ipset(), check)))
except (set_plan.SetsError, change.ChangeError) as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture
def run(ns: Namespace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """run(name=..., entries=[...]) as the module does, in a namespace with a journal of its own."""

    def call(check: bool = False, **given: Any) -> dict[str, Any]:
        answer: dict[str, Any] = ns.python_json(_RUN, str(tmp_path / "journal"), json.dumps(given), "check" if check else "run")
        return answer

    return call


def saved(ns: Namespace, name: str) -> list[str]:
    """What ipset(8) says the set holds."""
    return sorted(line.removeprefix(f"add {name} ") for line in ns.run(["ipset", "save", name]).stdout.splitlines()[1:])


def header(ns: Namespace, name: str) -> str:
    return ns.run(["ipset", "list", "-t", name]).stdout


def journal(ns: Namespace, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folder = tmp_path / "journal"
    return ns.run(["python3", str(folder / "journal.pyz"), "--folder", str(folder), *words], check=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"type": "hash:net", "entries": ["10.0.0.0/8", "10.1.0.0/16 nomatch", '192.0.2.1 comment "rack 7, admin"']},
            ["10.0.0.0/8", "10.1.0.0/16 nomatch", '192.0.2.1 comment "rack 7, admin"'],
        ),
        ({"type": "hash:net", "entries": ["0.0.0.0/0"]}, ["0.0.0.0/1", "128.0.0.0/1"]),
        ({"type": "hash:net", "family": "inet6", "entries": ["2001:db8::/32", "::/0"]}, ["2001:db8::/32", "8000::/1", "::/1"]),
        ({"type": "hash:ip", "entries": ["192.0.2.0/30"]}, ["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ({"type": "hash:ip", "family": "inet6", "entries": ["2001:db8::1"]}, ["2001:db8::1"]),
        (
            {"type": "hash:ip,port", "entries": ["192.0.2.1,tcp:80-81", "192.0.2.1,udp:53"]},
            ["192.0.2.1,tcp:80", "192.0.2.1,tcp:81", "192.0.2.1,udp:53"],
        ),
        (
            {"type": "hash:net,port", "family": "inet6", "entries": ["2001:db8::/32,tcp:22", "2001:db8:1::/48,tcp:22 nomatch"]},
            ["2001:db8:1::/48,tcp:22 nomatch", "2001:db8::/32,tcp:22"],
        ),
        ({"type": "bitmap:port", "entries": ["80", "8000-8002"]}, ["80", "8000", "8001", "8002"]),
        ({"type": "hash:net", "entries": []}, []),
    ],
)
def test_set_holds_what_was_wanted_and_a_second_run_changes_nothing(
    ns: Namespace, run: Callable[..., dict[str, Any]], given: dict[str, Any], expected: list[str]
) -> None:
    wished = run(check=True, name="wanted", **given)
    assert wished["changed"] and ns.run(["ipset", "list", "-n"]).stdout == "", "check mode makes nothing"
    done = run(name="wanted", **given)
    assert saved(ns, "wanted") == expected
    assert {key: done[key] for key in ("changed", "diff", "counts")} == {
        key: wished[key] for key in ("changed", "diff", "counts")
    }
    assert ns.run(["ipset", "list", "-n"]).stdout.split() == ["wanted"], "nothing is left beside it"
    again = run(name="wanted", **given)
    assert not again["changed"] and again["change"] is None and again["diff"] == {"before": "", "after": ""}


def test_what_ipset_made_of_the_same_addresses_is_no_change(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    ns.run(["ipset", "restore"], input="create w hash:net\nadd w 10.0.0.0/9\nadd w 10.128.0.0/9\nadd w 10.2.0.0/16 nomatch\n")
    assert not run(name="w", entries=["10.0.0.0/8", "10.2.0.0/17 nomatch", "10.2.128.0/17 nomatch"])["changed"]


def test_sized_for_its_content(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "long"
    file.write_text("".join(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}\n" for number in range(1, 100_001)))
    done = run(name="long", type="hash:ip", file=str(file))
    assert done["set"]["entries"] == 100_000 and done["counts"]["added"] == 100_000 and len(done["added"]) == 10
    shown = header(ns, "long")
    assert "maxelem 125000" in shown and "hashsize 131072" in shown and "Number of entries: 100000" in shown
    assert not run(name="long", type="hash:ip", file=str(file))["changed"]


def test_counters_and_remaining_time_survive(ns: Namespace, run: Callable[..., dict[str, Any]]) -> None:
    run(name="c", entries=["127.0.0.1 timeout 0", "192.0.2.7"], counters=True, timeout=3000)
    ns.run(["iptables", "-A", "INPUT", "-p", "udp", "-m", "set", "--match-set", "c", "src", "-j", "ACCEPT"])
    send = "import socket\nfor _ in range(6): socket.socket(2, 2).sendto(b'x', ('127.0.0.1', 9))"
    ns.python(send)
    counted = next(line for line in saved(ns, "c") if line.startswith("127.0.0.1"))
    assert "packets 6 " in counted
    ns.run(["ipset", "add", "-exist", "c", "192.0.2.7", "timeout", "100"])
    done = run(name="c", entries=["127.0.0.1 timeout 0", "192.0.2.7", "192.0.2.8"], counters=True, timeout=3000)
    assert done["counts"] == {"added": 1, "removed": 0, "updated": 0}
    lines = saved(ns, "c")
    assert lines[0] == counted, lines
    left = [int(found[1]) for line in lines[1:] if (found := re.search(r"timeout (\d+)", line))]
    assert left[0] <= 100 and 2900 < left[1] <= 3000, lines
    assert "References: 1" in header(ns, "c"), "the rule still names it"


def test_readers_never_see_it_empty_or_partial(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Two addresses, one in both contents and one in neither, are looked up without pause while the content changes."""
    one, other = tmp_path / "one", tmp_path / "other"
    common = "127.0.0.1\n"
    one.write_text(common + "".join(f"10.0.{number >> 8}.{number & 255}\n" for number in range(10_000)))
    other.write_text(common + "".join(f"10.1.{number >> 8}.{number & 255}\n" for number in range(10_000)))
    run(name="swap", file=str(one))
    seen = "iptables -A INPUT -p udp --dport 9"
    for more in (
        "-m set ! --match-set swap src",
        "-s 127.0.0.2 -m set --match-set swap src",
        "",
    ):  # not found, found wrongly, all
        ns.run(f"{seen} {more}".split())
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
        assert run(name="swap", file=str(content))["changed"]
    stream.kill()
    stream.wait()
    counted = [int(line.split()[0]) for line in ns.run(["iptables", "-L", "INPUT", "-vnx"]).stdout.splitlines()[2:]]
    assert counted[:2] == [0, 0] and counted[2] > 1000, counted


@pytest.mark.parametrize(
    ("commands", "given", "says"),
    [
        (["ipset create x hash:net", "ipset add x 192.0.2.9"], {}, "was not made by this collection"),
        (["ipset create x hash:ip"], {}, "type hash:ip, family inet"),
        (["ipset create x hash:net family inet6"], {}, "type hash:net, family inet6"),
        (
            ["ipset create x hash:net", "iptables -A INPUT -p tcp --dport 9 -j SET --add-set x src"],
            {"adopt": True},
            "is written by iptables-nft filter INPUT line 1",
        ),
        ([], {"name": "f2b-sshd"}, "a set of fail2ban"),
        ([], {"name": "KUBE-CLUSTER-IP"}, "a set of kube-proxy"),
        ([], {"name": "cali40s:abc"}, "a set of calico"),
        ([], {"name": "netops~x"}, "does not start with netops~"),
        ([], {"name": "x" * 32}, "1 to 31 characters"),
        ([], {"maxelem": 1, "entries": ["192.0.2.1", "192.0.2.2"]}, "maxelem is 1"),
        ([], {"entries": ["192.0.2.1 timeout 5"]}, "set the option timeout too"),
        ([], {"deadman": 5}, "allowed are 0 and 10 to 3600"),
        ([], {"file": "/nonexistent", "entries": None}, "No such file"),
        ([], {"entries": None}, "either entries or file"),
        (["ipset create x hash:net", "iptables -A INPUT -m set --match-set x src"], {"state": "absent"}, "named by 1 rules"),
    ],
)
def test_refused_with_the_reason_and_nothing_changed(
    ns: Namespace, run: Callable[..., dict[str, Any]], commands: list[str], given: dict[str, Any], says: str
) -> None:
    for command in commands:
        ns.run(command.split())
    before = ns.run(["ipset", "save"]).stdout
    answer = run(**{"name": "x", "entries": ["192.0.2.1"], **given})
    assert says in answer["error"]
    assert ns.run(["ipset", "save"]).stdout == before


def test_rolled_back_to_what_it_held(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    ns.run(["ipset", "restore"], input='create x hash:net comment timeout 9000\nadd x 10.0.0.0/8 timeout 0 comment "a b"\n')
    ns.run(["ipset", "add", "x", "10.9.0.0/16", "nomatch", "timeout", "0"])
    before = saved(ns, "x")
    run(name="x", entries=["192.0.2.1"], adopt=True)
    run(name="x", entries=["192.0.2.2"])  # known by now
    run(name="fresh", entries=["192.0.2.3"])
    assert saved(ns, "x") == ["192.0.2.2"]
    done = journal(ns, tmp_path, "rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert saved(ns, "x") == before
    assert ns.run(["ipset", "list", "-n"]).stdout.split() == ["x"]


def test_what_somebody_else_changed_since_is_left_alone(
    ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run(name="x", entries=["192.0.2.1"])
    ns.run(["ipset", "add", "x", "192.0.2.77"])
    done = journal(ns, tmp_path, "rollback")
    assert done.returncode == 1 and "somebody else changed it" in done.stdout
    assert saved(ns, "x") == ["192.0.2.1", "192.0.2.77"]


def test_nobody_confirms_and_the_host_takes_it_back(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run(name="x", entries=["192.0.2.1"])
    done = run(name="x", entries=["192.0.2.2"], deadman=10)
    marker = tmp_path / "journal" / "deadman.json"
    assert done["confirm_within"] == 10
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "uptime": 0}))  # its time has come
    assert journal(ns, tmp_path, "expire", "--change", done["change"]).returncode == 0
    assert saved(ns, "x") == ["192.0.2.1"]
    assert not marker.exists()


def test_absent_and_back(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert not run(name="x", state="absent", entries=None)["changed"]
    run(name="x", entries=["192.0.2.1"])
    done = run(name="x", state="absent", entries=None)
    assert done["changed"] and done["set"] is None and ns.run(["ipset", "list", "-n"]).stdout == ""
    assert not (tmp_path / "journal" / "journal.jsonl").exists(), "it was ours, so nothing is left to take back"


def test_killed_while_it_builds(ns: Namespace, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """The set is as it was, what was built aside goes with the next run, and the journal knows the way back."""
    run(name="x", entries=["192.0.2.1"])
    killed = ns.python(
        """
import os, signal, sys
from ansible_collections.netops.fleet.plugins.module_utils._kernel import ipset
ipset.Sets.swap = lambda self, name, other: os.kill(os.getpid(), signal.SIGKILL)
"""
        + _RUN,
        str(tmp_path / "journal"),
        json.dumps({"name": "x", "entries": ["192.0.2.2"]}),
        "run",
        check=False,
    )
    assert killed.returncode == -9
    assert saved(ns, "x") == ["192.0.2.1"] and len(ns.run(["ipset", "list", "-n"]).stdout.split()) == 2
    run(name="x", entries=["192.0.2.3"])
    assert saved(ns, "x") == ["192.0.2.3"] and ns.run(["ipset", "list", "-n"]).stdout.split() == ["x"]
    assert journal(ns, tmp_path, "rollback").returncode == 0
    until(lambda: ns.run(["ipset", "list", "-n"]).stdout == "")
