# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures of real traffic. Witnesses: tcpdump reads the file again, rules count what they drop, /proc shows what still runs."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import captured
from tests.kernel.conftest import ROOT, Namespace, until

pytestmark = pytest.mark.kernel

CAPTURE = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._evidence import capture
section = capture.capture(capture.Options.from_params(json.loads(sys.argv[1])))
print(json.dumps({"data": section.data and capture.result(section.data), "gaps": [one.why for one in section.gaps]}))
"""
SERVE = """
import socket, sys
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    connection, _where = server.accept()
    while connection.recv(65536):
        pass
    connection.close()
"""
#: Connects, sends in pieces, and says how it went.
TALK = """
import socket, sys, time
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5) as sock:
        for _piece in range(int(sys.argv[3])):
            sock.sendall(b"x" * 500)
            time.sleep(0.01)
    print("done")
except OSError as error:
    print(type(error).__name__)
"""
#: One connection after the other, until it is ended.
CHATTER = """
import socket, sys, time
print("ready", flush=True)
while True:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as sock:
        sock.sendall(b"hello")
    time.sleep(0.05)
"""
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"


class Running:
    """A capture at work in a namespace."""

    def __init__(self, ns: Namespace, **options: Any) -> None:
        self.ns = ns
        self.process = ns.start(["python3", "-u", "-c", CAPTURE, json.dumps({"seconds": 20.0, **options})])
        until(lambda: self.tool() is not None)
        # It captures once it has written the head of the file and said on what it listens.
        until(lambda: int(Path(f"/proc/{self.tool()}/io").read_text().split("wchar: ")[1].split()[0]) > 90)

    def tool(self) -> int | None:
        """The process id of tcpdump, which is a grandchild."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _paren, rest = path.read_text().partition("(")[2].rpartition(")")
                parent = int(rest.split()[1])
                if (
                    name == "tcpdump"
                    and int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1]) == self.inner()
                ):
                    return int(path.parent.name)
            except (OSError, IndexError):
                continue
        return None

    def inner(self) -> int:
        """`ip netns exec` replaces itself by the command."""
        return self.process.pid

    def end(self) -> dict[str, Any]:
        """As tcpdump ends by itself: the bound of packets or seconds is for others to test."""
        tool = self.tool()
        if tool is not None:
            # It sleeps when it has taken all there is.
            until(lambda: Path(f"/proc/{tool}/stat").read_text().rpartition(")")[2].split()[0] == "S")
            os.kill(tool, signal.SIGINT)
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.read())
        return answer


def read_again(data: str, tmp_path: Path, words: str = "") -> list[str]:
    """The witness: what tcpdump itself finds in the file."""
    file = tmp_path / "again.pcap"
    file.write_bytes(base64.b64decode(data))
    done = subprocess.run(
        ["tcpdump", "-n", "-r", str(file), *([words] if words else [])], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer["gaps"] == []
    return captured.summary(base64.b64decode(answer["data"]["pcap"]))


@pytest.mark.parametrize("target", ["10.77.0.2", "fd77::2"])
@pytest.mark.parametrize("interface", ["va", "any"])
def test_a_healthy_connection_shows_nothing_unusual(
    pair: tuple[Namespace, Namespace], tmp_path: Path, target: str, interface: str
) -> None:
    left, right = pair
    right.start_python(SERVE, "1678")
    running = Running(left, interface=interface, filter="tcp port 1678")
    assert left.python(TALK, target, "1678", "5").stdout.strip() == "done"
    answer = running.end()
    told = shown(answer)
    assert told["lines"][1:] == ["nothing unusual: every SYN was answered, no reset, no segment sent again, no ICMP error"]
    assert told["packets"] == answer["data"]["packets"] == len(read_again(answer["data"]["pcap"], tmp_path))
    assert told["connections"] == 1 and told["protocols"] == {"TCP": told["packets"]}
    assert answer["data"]["dropped"] == 0 and answer["data"]["ended"] == "packets"


def test_a_syn_that_a_rule_drops_has_no_answer(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    left, right = pair
    right.run(["nft", "-f", "-"], input="add table ip t\nadd chain ip t i { type filter hook input priority 0; }\n"
              "add rule ip t i tcp dport 1678 counter drop\n")  # fmt: skip
    running = Running(left, filter="tcp or icmp")
    assert left.python(TALK, "10.77.0.2", "1678", "1").stdout.strip() == "TimeoutError"
    answer = running.end()
    told = shown(answer)
    syns = len(read_again(answer["data"]["pcap"], tmp_path, "tcp[tcpflags] == tcp-syn"))
    assert told["unanswered"] == [{"from": "10.77.0.1", "to": "10.77.0.2", "port": 1678, "syns": syns, "why": ""}]
    assert f"no answer: {syns} SYN from 10.77.0.1 to 10.77.0.2:1678" in told["lines"]
    assert f"counter packets {syns} " in right.run(["nft", "list", "table", "ip", "t"]).stdout


def test_who_refuses_is_told(pair: tuple[Namespace, Namespace]) -> None:
    """Nothing listens: the host resets. A rule rejects: the host says so by ICMP."""
    left, right = pair
    right.run(["nft", "-f", "-"], input="add table ip t\nadd chain ip t i { type filter hook input priority 0; }\n"
              "add rule ip t i tcp dport 1679 reject with icmp admin-prohibited\n")  # fmt: skip
    running = Running(left)
    left.python(TALK, "10.77.0.2", "1678", "1")
    left.python(TALK, "10.77.0.2", "1679", "1")
    told = shown(running.end())
    assert [(one["by"], one["port"], one["after"], one["ttl"]) for one in told["resets"]] == [("10.77.0.2", 1678, "syn", 64)]
    assert [(one["by"], one["name"], one["about"]) for one in told["errors"]] == [
        ("10.77.0.2", "admin-prohibited", "tcp to 10.77.0.2:1679")
    ]
    assert [(one["port"], one["why"]) for one in told["unanswered"]] == [(1679, "admin-prohibited, says 10.77.0.2")]


def test_segments_that_are_lost_are_sent_again(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    right.start_python(SERVE, "1678")
    right.run(["nft", "-f", "-"], input="add table ip t\nadd chain ip t i { type filter hook input priority 0; }\n"
              "add rule ip t i tcp dport 1678 ip length > 200 numgen inc mod 4 == 1 counter drop\n")  # fmt: skip
    running = Running(left, interface="any", filter="port 1678")
    assert left.python(TALK, "10.77.0.2", "1678", "12").stdout.strip() == "done"
    told = shown(running.end())
    counter = right.run(["nft", "list", "table", "ip", "t"]).stdout.split("counter packets ")[1].split()[0]
    assert [(one["from"], one["port"]) for one in told["retransmits"]] == [("10.77.0.1", 1678)]
    # Each lost one is sent again; one that was only late may be, too.
    assert int(counter) <= told["retransmits"][0]["again"] <= 2 * int(counter)
    assert told["unanswered"] == told["resets"] == []


def test_a_reset_from_elsewhere_has_another_distance(pair: tuple[Namespace, Namespace]) -> None:
    """A forged RST in the server's name, as a device on the way would send it, with the TTL of its own distance."""
    left, right = pair
    right.run(["nft", "-f", "-"], input="add table ip t\nadd chain ip t o { type filter hook output priority 0; }\n"
              "add rule ip t o tcp sport 1678 tcp flags & rst == rst ip ttl set 40\n")  # fmt: skip
    linger = "connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))"
    right.start_python(SERVE.replace("while connection.recv(65536):\n        pass", f"connection.recv(10)\n    {linger}"), "1678")
    running = Running(left, interface="va")
    left.python(TALK, "10.77.0.2", "1678", "5")
    told = shown(running.end())
    first = told["resets"][0]
    assert (first["by"], first["after"], first["ttl"], first["usual_ttl"]) == ("10.77.0.2", "data", 40, 64)
    assert any("it may come from a device on the way" in line for line in told["lines"])


@pytest.mark.parametrize(
    ("bound", "ended"),
    [({"packets": 4}, "packets"), ({"seconds": 0.5}, "time"), ({"max_bytes": 4096, "snaplen": 65535}, "bytes")],
)
def test_each_bound_ends_it(pair: tuple[Namespace, Namespace], tmp_path: Path, bound: dict[str, Any], ended: str) -> None:
    left, right = pair
    right.start_python(SERVE, "1678")
    left.start_python(CHATTER, "10.77.0.2", "1678")
    answer = left.python_json(CAPTURE, json.dumps({"seconds": 30.0, "interface": "va", **bound}))["data"]
    assert answer["ended"] == ended
    assert len(base64.b64decode(answer["pcap"])) <= bound.get("max_bytes", 1 << 20)
    assert len(read_again(answer["pcap"], tmp_path)) == answer["packets"] <= bound.get("packets", 1 << 20)


def _gone(tool: int) -> None:
    """The process has ended, whether or not somebody has taken its status yet."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{tool}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(ended)


def test_nothing_is_left_when_the_module_is_killed(pair: tuple[Namespace, Namespace]) -> None:
    running = Running(pair[0], seconds=200.0)
    tool = running.tool()
    assert tool is not None
    os.kill(running.inner(), signal.SIGKILL)
    _gone(tool)


def test_a_host_ends_by_itself_when_nobody_waits(pair: tuple[Namespace, Namespace]) -> None:
    """The controller is gone: the pipe that the answer would go through has no reader any more."""
    running = Running(pair[0], seconds=200.0)
    tool = running.tool()
    assert tool is not None and running.process.stdout is not None
    running.process.stdout.close()
    _gone(tool)
    running.process.wait(20)


def test_hosts_begin_at_the_same_moment(pair: tuple[Namespace, Namespace]) -> None:
    start = time.time() + 8
    words = [json.dumps({"seconds": 0.3, "start_at": start, "interface": "lo"})]
    runs = [ns.start(["python3", "-c", CAPTURE, *words]) for ns in pair]
    answers = [json.loads(one.stdout.read())["data"] for one in runs if one.stdout is not None]
    assert all(start <= one["started"] < start + 5 for one in answers)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"filter": "tcp prot 1"}, "tcpdump: "),
        ({"interface": "nothere"}, "there is no interface nothere here; there are lo, va"),
        ({"start_at": 1.0}, "more hosts than forks"),
        ({"start_at": 9e9}, "away, allowed are 120"),
        ({"filter": "-w /tmp/nf-should-not-be"}, "tcpdump: "),
    ],
)
def test_what_cannot_be_captured_is_said(pair: tuple[Namespace, Namespace], options: dict[str, Any], why: str) -> None:
    answer = pair[0].python_json(CAPTURE, json.dumps(options))
    assert answer["data"] is None and why in answer["gaps"][0]
    assert not Path("/tmp/nf-should-not-be").exists()


def test_the_role_captures_on_hosts_at_the_same_time(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    """The playbook as it is shipped; both names are this namespace, because a local connection has no other."""
    left, right = pair
    right.start_python(SERVE, "1678")
    inventory = tmp_path / "hosts"
    inventory.write_text("[all]\none ansible_connection=local\n../two ansible_connection=local\n", encoding="utf-8")
    left.start_python(CHATTER, "10.77.0.2", "1678")
    home = tmp_path / "home"
    home.mkdir()
    words = ["-i", str(inventory), "-f", "2", "-e", f"ansible_python_interpreter={sys.executable}", "-e", "capture_seconds=1.5"]
    words += [
        "-e",
        json.dumps({"capture_filter": "tcp port 1678 and not port 9", "capture_lead": 15, "capture_output": str(home / "out")}),
    ]
    done = left.run(
        [str(ANSIBLE), str(ROOT / "playbooks" / "capture.yml"), *words],
        env={**left.environment(), "HOME": str(home), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        timeout=300,
    )
    assert "nothing unusual: every SYN was answered" in done.stdout
    (folder,) = (home / "out").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["%2E.%2Ftwo.pcap", "%2E.%2Ftwo.txt", "one.pcap", "one.txt"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    times = []
    for name in ("one", "%2E.%2Ftwo"):
        lines = read_again(
            base64.b64encode((folder / f"{name}.pcap").read_bytes()).decode(), tmp_path, "tcp[tcpflags] & tcp-syn != 0"
        )
        assert lines
        times.append((lines[0].split()[0], lines[-1].split()[0]))
        assert (folder / f"{name}.txt").read_text().splitlines()[1].endswith("TCP connections")
    # The same window: each began before the other ended.
    assert times[0][0] < times[1][1] and times[1][0] < times[0][1]


def test_more_hosts_than_forks_is_told_before_anything_is_captured(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    inventory = tmp_path / "hosts"
    inventory.write_text("[all]\none ansible_connection=local\ntwo ansible_connection=local\n", encoding="utf-8")
    words = ["-i", str(inventory), "-f", "1", "-e", f"capture_output={tmp_path / 'out'}"]
    done = pair[0].run(
        [str(ANSIBLE), str(ROOT / "playbooks" / "capture.yml"), *words],
        check=False,
        env={**pair[0].environment(), "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        timeout=300,
    )
    assert done.returncode == 2
    assert "2 hosts cannot capture at the same time with 1 forks" in " ".join(done.stdout.split())
    assert not (tmp_path / "out").exists()
