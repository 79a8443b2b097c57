# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong while firewall_consolidate works: nobody confirms, the module dies, packets keep coming."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import consolidate
from tests.kernel.conftest import ROOT, Namespace, environment, until

pytestmark = pytest.mark.kernel

BACKENDS = ["native", "nft", "legacy"]
COUNT = 40


def test_random_rules_give_the_same_packets_the_same_end() -> None:
    """The kernel before, after, and after the way back; fixed seeds. More of them are in the figures."""
    argv = [sys.executable, "-m", "tests.kernel.fold_differential", "1", "30", "6"]
    done = subprocess.run(argv, cwd=ROOT, env=environment(ROOT), capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    assert [one for one in results if one["result"] == "wrong"] == []
    assert sum(one["result"] == "same" for one in results) >= 20
    before, after = (sum(one.get(f"rules_{side}", 0) for one in results) for side in ("before", "after"))
    assert after < before * 0.7, "rules are folded at all"


@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_confirms(ns: Namespace, tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "state"
    consolidate.load(ns, consolidate.blocked(COUNT, backend), backend)
    original = consolidate.save(ns, backend)
    path = consolidate.run(ns, folder)["path"]
    done = consolidate.run(ns, folder, state="applied", path=path, deadman=10)
    assert done["confirm_within"] == 10 and consolidate.save(ns, backend) != original
    until(lambda: not (folder / "deadman.json").exists(), seconds=90)
    assert consolidate.save(ns, backend) == original


def test_confirmed_it_stays(ns: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    consolidate.load(ns, consolidate.blocked(COUNT, "nft"), "nft")
    path = consolidate.run(ns, folder)["path"]
    done = consolidate.run(ns, folder, state="applied", path=path, deadman=3600)
    folded = consolidate.save(ns, "nft")
    assert consolidate.journal(ns, folder, "confirmed", done["change"])["confirmed"]
    assert not (folder / "deadman.json").exists() and consolidate.save(ns, "nft") == folded
    assert consolidate.journal(ns, folder, "rolled_back", done["change"])["changed"], "confirmed, and there is still a way back"


_DIES = """
import json, os, signal, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import apply
from ansible_collections.netops.fleet.plugins.module_utils._safety import objects
task, dies_at = json.loads(sys.argv[1]), sys.argv[2]
put, calls = objects.put, []
def dying(target, state):
    calls.append(target.kind)
    if dies_at == f"before {target.kind}":
        os.kill(os.getpid(), signal.SIGKILL)
    put(target, state)
    if dies_at == f"after {target.kind}":
        os.kill(os.getpid(), signal.SIGKILL)
objects.put = dying
apply.run(task["params"], task["check"], task["folder"], task["root"])
"""


@pytest.mark.parametrize(
    ("backend", "dies_at"),
    [
        ("native", "before nft"), ("native", "after nft"), ("nft", "after ipset"), ("nft", "after iptables"),
        ("legacy", "before ipset"), ("legacy", "after iptables"),
    ],
)  # fmt: skip
def test_killed_in_the_middle_the_host_takes_it_back(ns: Namespace, tmp_path: Path, backend: str, dies_at: str) -> None:
    folder = tmp_path / "state"
    consolidate.load(ns, consolidate.blocked(COUNT, backend), backend)
    original = consolidate.save(ns, backend)
    path = consolidate.run(ns, folder)["path"]
    task = consolidate.arguments(folder, state="applied", path=path, deadman=10)
    done = ns.python(_DIES, task, dies_at, check=False)
    assert done.returncode in (-9, 137), done.stderr
    assert (folder / "deadman.json").exists()
    until(lambda: not (folder / "deadman.json").exists(), seconds=90)
    assert consolidate.save(ns, backend) == original
    if backend != "native":
        assert ns.run(["ipset", "list", "-n"]).stdout == ""
    assert consolidate.run(ns, folder, state="applied", path=path)["changed"], "and it can be done again"


# --- packets during apply

_RECEIVE = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
sock.bind(("10.77.0.2", 9000))
print("ready", flush=True)
seen = {}
while True:
    data, (address, _port) = sock.recvfrom(64)
    number = struct.unpack("!Q", data)[0]
    if number == 0:
        break
    seen.setdefault(address, []).append(number)
for address, numbers in sorted(seen.items()):
    print(address, len(numbers), numbers[0], numbers[-1], numbers == list(range(numbers[0], numbers[-1] + 1)), flush=True)
print("done", flush=True)
"""

_SEND = """
import select, socket, struct, sys, time
socks = []
for address in sys.argv[1:]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 9001))
    sock.connect(("10.77.0.2", 9000))
    socks.append(sock)
print("ready", flush=True)
number = 0
while not select.select([sys.stdin], [], [], 0.0005)[0]:
    number += 1
    for sock in socks:
        try:
            sock.send(struct.pack("!Q", number))
        except OSError:
            pass
# The last word, from the address that is allowed.
socks[0].send(struct.pack("!Q", 0))
print(number, flush=True)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_packet_meets_half_of_it(pair: tuple[Namespace, Namespace], tmp_path: Path, backend: str) -> None:
    """10,000 entries become sets and go back while allowed and blocked addresses keep sending: not one wrong verdict."""
    client, host = pair
    for address in ("10.77.0.11", "10.77.0.12", "10.77.0.13"):
        client.run(["ip", "address", "add", f"{address}/24", "dev", "va"])
    load_mixed(host, backend)
    folder = tmp_path / "state"
    receiver = host.start_python(_RECEIVE)
    sender = client.start_python(_SEND, "10.77.0.11", "10.77.0.12", "10.77.0.13")
    path = consolidate.run(host, folder)["path"]
    done = consolidate.run(host, folder, state="applied", path=path)
    assert done["changed"] and done["summary"]["elements"] == 10_000
    consolidate.journal(host, folder, "rolled_back", done["change"])
    assert sender.stdin is not None and sender.stdout is not None and receiver.stdout is not None
    sender.stdin.write("stop\n")
    sender.stdin.flush()
    sent = int(sender.stdout.readline())
    said = [line.split() for line in iter(receiver.stdout.readline, "done\n")]
    assert sent > 500, "the stream was there"
    assert [line[0] for line in said] == ["10.77.0.11"], "only the allowed address came through, ever"
    assert said[0][1:] == [str(sent), "1", str(sent), "True"], "and not one of its packets was lost"


def load_mixed(host: Namespace, backend: str) -> None:
    """5,000 addresses blocked, then 5,000 allowed, the rest blocked; 10.77.0.11 is allowed, .12 blocked, .13 in neither list."""
    blocked = ["10.77.0.12", *(consolidate.address(n) for n in range(4999))]
    allowed = [*(consolidate.address(n) for n in range(5000, 9999)), "10.77.0.11"]
    if backend == "native":
        rules = [f"ip saddr {one} drop" for one in blocked] + [f"ip saddr {one} accept" for one in allowed]
        text = "table ip fence {\nchain input {\ntype filter hook input priority 0;\n" + "\n".join(rules) + "\ndrop\n}\n}\n"
    else:
        rules = [f"-A INPUT -s {one} -j DROP" for one in blocked] + [f"-A INPUT -s {one} -j ACCEPT" for one in allowed]
        text = "*filter\n:INPUT DROP [0:0]\n" + "\n".join(rules) + "\nCOMMIT\n"
    consolidate.load(host, text, backend)
