# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A diagnosis that captures: what nobody answers and what is sent again is told. Witnesses: rules that count, tcpdump."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import ROOT, Namespace, until
from tests.kernel.test_capture import SERVE

pytestmark = pytest.mark.kernel

#: Sends in pieces, one connection after the other, and tries a port where nobody answers.
_CLIENT = """
import socket, sys, threading, time
def silent():
    while True:
        try:
            socket.create_connection((sys.argv[1], 9), 4)
        except OSError:
            pass
threading.Thread(target=silent, daemon=True).start()
print("ready", flush=True)
while True:
    with socket.create_connection((sys.argv[1], 1678), 5) as sock:
        for _piece in range(20):
            sock.sendall(b"x" * 500)
            time.sleep(0.005)
"""
_RULES = """
table ip t {
  chain in {
    type filter hook input priority 0;
    tcp dport 9 counter drop
    tcp dport 1678 tcp flags & (syn | fin | rst) == 0 ip length > 200 numgen inc mod 6 0 counter drop
  }
}
"""


@pytest.fixture
def host(make_ns: Any) -> Namespace:
    """A host whose neighbour 10.5.0.2 loses a sixth of what it is sent on port 1678, and everything on port 9."""
    here, there = make_ns(), make_ns()
    here.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", there.name])
    for number, ns in enumerate((here, there), 1):
        ns.run(["ip", "addr", "add", f"10.5.0.{number}/24", "dev", "eth0"])
        ns.run(["ip", "link", "set", "eth0", "up"])
        # One segment a packet: the rule of the neighbour then drops segments.
        ns.run(["ip", "link", "set", "eth0", "gso_max_segs", "1"])
    there.run(["nft", "-f", "-"], input=_RULES)
    there.start_python(SERVE, "1678")
    here.start_python(_CLIENT, "10.5.0.2")
    until(lambda: len(re.findall(r"counter packets [1-9]", there.run(["nft", "list", "ruleset"]).stdout)) == 2)
    return here


def diagnose(host: Namespace, output: Path, *more: str) -> tuple[dict[str, Any], Path]:
    """(the host's record in report.json, the run's folder)"""
    tool = Path(sys.executable).parent / "ansible-playbook"
    words = [str(tool), "-i", "inventories/local", "playbooks/diagnose.yml", "-e", f"diagnose_output={output}"]
    words += ["-e", "diagnose_window=0.2", *more]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    host.run(["sh", "-euc", 'cd "$0"; exec "$@"', str(ROOT), *words], env=environment, timeout=120)
    (run,) = [path.parent for path in output.glob("*/run.json") if not path.parent.is_symlink()]
    (record,) = json.loads((run / "report.json").read_text(encoding="utf-8"))["hosts"]
    return record, run


def test_latency_asks_the_capture(host: Namespace, tmp_path: Path) -> None:
    record, run = diagnose(host, tmp_path / "out", "-e", "diagnose_symptom=latency", "-e", "diagnose_capture=5")
    found = {one["id"]: one for one in record["findings"]}
    assert found["capture-unanswered"]["subject"] == "10.5.0.2 port 9"
    assert "SYN from 10.5.0.1 to 10.5.0.2 port 9 got no answer" in found["capture-unanswered"]["summary"]
    again = found["capture-retransmits"]
    assert (again["severity"], again["subject"]) == ("warning", "10.5.0.1 to 10.5.0.2 port 1678")
    steps = {one["step"]: one for one in record["answer"]["steps"]}
    assert steps["capture"]["result"] == "bad" and list(steps).index("capture") > list(steps).index("concurrency")
    files = {path.suffix: path for path in (run / "captures").iterdir()}
    assert set(files) == {".pcap", ".txt", ".json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert stat.S_IMODE((run / "captures").stat().st_mode) == 0o700
    shown = host.run(["tcpdump", "-nr", str(files[".pcap"]), "tcp[tcpflags] == tcp-syn and dst port 9"]).stdout
    assert len(shown.splitlines()) >= 2


def test_the_target_alone_is_captured_where_there_is_one(host: Namespace, tmp_path: Path) -> None:
    more = ("-e", "diagnose_symptom=loss", "-e", "diagnose_capture=3", "-e", "diagnose_target=tcp/10.5.0.2:1678")
    record, run = diagnose(host, tmp_path / "out", *more)
    found = {one["id"] for one in record["findings"]}
    assert "capture-retransmits" in found and "capture-unanswered" not in found
    (file,) = (run / "captures").glob("*.pcap")
    everything = host.run(["tcpdump", "-nr", str(file)]).stdout.splitlines()
    assert everything and all("10.5.0.2.1678" in line or "ICMP" in line for line in everything)


def test_a_host_that_cannot_capture_is_read_all_the_same(host: Namespace, tmp_path: Path) -> None:
    """Without the tool: a file system without it in its place."""
    hide = "for tool in /usr/bin/tcpdump /usr/sbin/tcpdump; do [ ! -e $tool ] || mount --bind /dev/null $tool; done"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", f'{hide}; exec "$@"', "sh"]
    plain = host.argv
    host.argv = lambda argv: plain([*words, *argv])  # type: ignore[method-assign]
    record, run = diagnose(host, tmp_path / "out", "-e", "diagnose_symptom=latency", "-e", "diagnose_capture=2")
    steps = {one["step"]: one for one in record["answer"]["steps"]}
    assert steps["capture"]["result"] == "unknown" and "tcpdump" in steps["capture"]["detail"]
    assert record["status"] == "ok" and steps["link"]["result"] == "ok"
    assert [path.suffix for path in (run / "captures").iterdir()] == [".json"]


def test_without_being_asked_nothing_is_captured(host: Namespace, tmp_path: Path) -> None:
    record, run = diagnose(host, tmp_path / "out", "-e", "diagnose_symptom=latency")
    assert not (run / "captures").exists()
    assert "capture" not in [one["step"] for one in record["answer"]["steps"]]
