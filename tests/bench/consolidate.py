# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""firewall_consolidate: what folding and certificate cost, what packets gain, and whether the kernel sees a difference."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure
from tests.bench.measure import MeasureError
from tests.bench.options import ROOT, Options
from tests.kernel import consolidate
from tests.kernel.conftest import Namespace

#: Random rulesets of the comparison with the kernel (one in ten has nothing to fold), and packets sent three times through each.
SEEDS, BATCH, PACKETS = 2_300, 50, 6
RULES = 10_000
#: Seconds one measurement of throughput takes, and how many of them a round has.
_SECONDS, _TURNS = 0.7, 3

_COST = """
import gc, json, random, sys, time
from ansible_collections.netops.fleet.plugins.module_utils._firewall import certificate, consolidate, fold, iptables, nft_text
from ansible_collections.netops.fleet.plugins.module_utils._firewall.model import Rule
count, kind, r = int(sys.argv[1]), sys.argv[2], random.Random(1)
def address():
    return f"{r.randrange(1, 223)}.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(256)}"
texts = []
for n in range(count):
    verdict = r.choice(("accept", "drop"))
    if kind == "nft":
        port = f"tcp dport {r.choice((22, 80, 443))} " if n % 3 == 0 else ""
        texts.append(f"ip saddr {address()} {port}counter packets 1 bytes 60 {verdict}")
    else:
        port = f"-p tcp -m tcp --dport {r.choice((22, 80, 443))} " if n % 3 == 0 else ""
        texts.append(f"-A INPUT -s {address()}/32 {port}-j {verdict.upper()}")
for n in range(20):
    wide = f"tcp dport {1000 + n} accept" if kind == "nft" else f"-A INPUT -p tcp -m tcp --dport {1000 + n} -j ACCEPT"
    texts.insert(r.randrange(len(texts)), wide)
if kind == "nft":
    rules = []
    for line, text in enumerate(texts, 1):
        read = nft_text.read_rule(text, "ip")
        rules.append(Rule("nft", "ip", "f", "i", line, text, read.parts, read.verdict, line, read.packets, read.bytes))
else:
    save = "*filter\\n:INPUT ACCEPT [0:0]\\n" + "".join(f"[0:0] {text}\\n" for text in texts) + "COMMIT\\n"
    rules = iptables.parse_save(save, "iptables-legacy", "ip").rules
gc.disable()
begun = time.perf_counter(), time.process_time()
folded = fold.fold(rules)
sets = [consolidate.model_set(made, rules[0]) for made in folded.sets]
after = consolidate.read_after(rules, folded.after, sets, frozenset(("INPUT",)))
proof = certificate.certify(rules, after, sets)
print(json.dumps({"wall": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1], "verdict": proof.verdict,
                  "rules": len(rules), "after": len(folded.after)}))
"""

_SINK = """
import socket, sys, time
sock = socket.socket(); sock.bind((sys.argv[1], 9000)); sock.listen(1)
print("ready", flush=True)
peer, _address = sock.accept()
view, total, begun = memoryview(bytearray(1 << 16)), 0, time.perf_counter()
while True:
    size = peer.recv_into(view)
    if not size:
        break
    total += size
print(total / (time.perf_counter() - begun), flush=True)
"""

_SOURCE = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], 9000))
data, end = bytes(1 << 16), time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    sock.sendall(data)
sock.close()
"""


def run(options: Options) -> list[Figure]:
    figures: list[Figure] = []
    for kind in ("nft", "iptables"):
        for count, limit in ((10_000, 3.0), (50_000, 20.0)):
            figures.append(_cost(options, kind, count, limit))
    for backend in ("native", "legacy"):
        figures += _path(options, backend)
    return [*figures, *_kernel(options)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / '.collections'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}


def _cost(options: Options, kind: str, count: int, limit: float) -> Figure:
    argv = [sys.executable, "-c", _COST, str(count), kind]
    found = []
    for _round in range(min(3, options.rounds)):
        done = subprocess.run(argv, env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise MeasureError(done.stderr[-2000:])
        found.append(json.loads(done.stdout))
        if found[-1]["verdict"] != "equal":
            raise MeasureError(f"no certificate: {found[-1]}")
    cpu, wall = (statistics.median(one[what] for one in found) for what in ("cpu", "wall"))
    options.say(f"{count} {kind} rules to {found[-1]['after']}: {found}")
    return Figure(f"fold and certificate of {count} {kind} rules: CPU", cpu, "s", at_most=limit, detail=f"wall {wall:.2f} s")


def _path(options: Options, backend: str) -> list[Figure]:
    """Throughput through none, 10,000 rules, and what they are folded into; told as seconds for a GiB.

    A host for each, in turn and in short streams: what else the machine does meets all three alike.
    """
    made = [Namespace()]
    client, hosts = made[0], {}
    try:
        for number, kind in enumerate(("none", "linear", "folded")):
            hosts[kind] = Namespace()
            made.append(hosts[kind])
            _join(client, hosts[kind], number)
            if kind != "none":
                consolidate.load(hosts[kind], _linear(backend), backend)
        with tempfile.TemporaryDirectory() as folder:
            path = consolidate.run(hosts["folded"], Path(folder) / "state")["path"]
            done = consolidate.run(hosts["folded"], Path(folder) / "state", state="applied", path=path)
            if not done.get("changed"):
                raise MeasureError(f"not folded: {done}")
        seconds: dict[str, list[float]] = {kind: [] for kind in hosts}
        for turn in range(options.rounds * _TURNS):
            order = list(hosts)[turn % 3 :] + list(hosts)[: turn % 3]
            for kind in order:
                seconds[kind].append(_stream(client, hosts[kind], list(hosts).index(kind)))
        for kind, found in seconds.items():
            options.say(f"{backend} {kind}: " + ", ".join(f"{one:.2f}" for one in found) + " s/GiB")
        name = "nft" if backend == "native" else "iptables-legacy"
        ratios = {kind: statistics.median(one / none for one, none in zip(found, seconds["none"]))
                  for kind, found in seconds.items()}  # fmt: skip
        none = statistics.median(seconds["none"])
        return [
            Figure(f"a GiB through {RULES} {name} rules", ratios["linear"] * none, "s", none, "no firewall"),
            Figure(f"a GiB through the same, folded ({name})", ratios["folded"] * none, "s", none, "no firewall", 1 / 0.9),
        ]
    finally:
        for one in made:
            one.remove()


def _join(client: Namespace, host: Namespace, number: int) -> None:
    client.run(["ip", "link", "add", f"va{number}", "type", "veth", "peer", "name", "vb", "netns", host.name])
    for space, link, last in ((client, f"va{number}", 1), (host, "vb", 2)):
        space.run(["ip", "address", "add", f"10.77.{number}.{last}/24", "dev", link])
        space.run(["ip", "link", "set", link, "up"])
        if _has_ethtool():  # a packet for each segment, as from a wire
            space.run(["ethtool", "-K", link, "tso", "off", "gso", "off", "gro", "off"], check=False)


def _has_ethtool() -> bool:
    return any(os.access(f"{folder}/ethtool", os.X_OK) for folder in ("/usr/sbin", "/sbin", "/usr/bin"))


def _linear(backend: str) -> str:
    """Rules that a packet of the stream passes, every one."""
    if backend == "native":
        rules = "\n".join(f"ip saddr {consolidate.address(n)} drop" for n in range(RULES))
        return f"table ip fence {{\nchain input {{\ntype filter hook input priority 0;\n{rules}\n}}\n}}\n"
    rules = "\n".join(f"-A INPUT -s {consolidate.address(n)} -j DROP" for n in range(RULES))
    return f"*filter\n:INPUT ACCEPT [0:0]\n{rules}\nCOMMIT\n"


def _stream(client: Namespace, host: Namespace, number: int) -> float:
    """Seconds for a GiB of one TCP connection."""
    address = f"10.77.{number}.2"
    sink = host.start_python(_SINK, address)
    client.python(_SOURCE, address, str(_SECONDS), timeout=60)
    assert sink.stdout is not None
    rate = float(sink.stdout.readline())
    sink.wait()
    return 2**30 / rate


def _batch(first: int) -> list[dict[str, Any]]:
    processors = sorted(os.sched_getaffinity(0))
    # Packets of one case are sent and received on one processor.
    pinned = ["taskset", "-c", str(processors[first // BATCH % len(processors)])]
    argv = [*pinned, sys.executable, "-m", "tests.kernel.fold_differential", str(first), str(BATCH), str(PACKETS)]
    done = subprocess.run(argv, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasureError(done.stderr[-2000:])
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _kernel(options: Options) -> list[Figure]:
    """Answers, not seconds: as many at a time as there are processors."""
    counts = {"same": 0, "wrong": 0, "nothing": 0, "refused": 0}
    rules = {"before": 0, "after": 0}
    begun = time.monotonic()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for batch in pool.map(_batch, range(100_000, 100_000 + SEEDS, BATCH)):
            for one in batch:
                counts[one["result"]] += 1
                for side in rules:
                    rules[side] += one.get(f"rules_{side}", 0)
                if one["result"] == "wrong":
                    options.say(f"WRONG: {json.dumps(one)[:2000]}")
            options.say(f"{counts} {rules} ({time.monotonic() - begun:.0f} s)")
    compared = counts["same"] + counts["wrong"]
    return [
        Figure("random rulesets folded and compared with the kernel", compared, "", detail=f"{rules}"),
        Figure("of them with another end for a packet", counts["wrong"], "", at_most=0),
    ]
