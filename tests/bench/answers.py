# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a simulated fleet: recorded from real collections in network namespaces, made alike in size and unlike in detail.

Recorded are a healthy host, one whose firewall drops the target's port, and one whose link has another MTU. Each of VARIANTS
answers is one of them with a name, an address, counters and neighbours of its own: about 200 KB of JSON, as a busy host has.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import ansible_runs, hosts, measure
from tests.kernel.conftest import Namespace

VARIANTS = 200
#: Variants that are not healthy, one in a hundred.
FAULTY = {41: "dropped", 141: "mtu"}
SIZE = 200_000
_OWN = "192.0.2.11"


def record(folder: Path) -> dict[str, dict[str, Any]]:
    """Evidence of one host of each kind."""
    payload = ansible_runs.payload(folder, options={"diagnose_target": "tcp/1678"})
    kinds: dict[str, Callable[[Namespace], object]] = {
        "healthy": lambda space: None,
        "dropped": lambda space: space.run(["nft", "insert rule inet filter input tcp dport 1678 drop"]),
        "mtu": lambda space: space.run(["ip", "link", "set", "eth0", "mtu", "1400"]),
    }
    found = {}
    for kind, change in kinds.items():
        with hosts.host() as space:
            hosts.load_nft(space, hosts.ORDINARY)
            change(space)
            with open(payload, "rb") as source:
                done = subprocess.run(space.argv([hosts.python(), "-"]), stdin=source, capture_output=True, check=False)
        try:
            found[kind] = json.loads(zlib.decompress(base64.b64decode(json.loads(done.stdout)["evidence"]), 31))
        except (ValueError, KeyError) as error:
            raise measure.MeasureError(f"the module failed: {done.stdout[-1000:]!r} {done.stderr[-1000:]!r}") from error
    return found


def write(folder: Path) -> tuple[Path, Path, int, int]:
    """Make the answers; returns folders of (module answers, the same evidence as structures), and mean bytes (plain, packed)."""
    from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.collect import summary

    recorded = record(folder)
    packed_folder, plain_folder = folder / "packed", folder / "plain"
    for each in (packed_folder, plain_folder):
        each.mkdir(parents=True, exist_ok=True)
    plain_size = packed_size = 0
    for number in range(VARIANTS):
        evidence = _variant(recorded[FAULTY.get(number, "healthy")], number)
        text = json.dumps(evidence, separators=(",", ":"), ensure_ascii=True).encode()
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        packed = packer.compress(text) + packer.flush()
        answer = {
            "host_time_start": "@now@",
            "host_time_end": "@now@",
            "evidence": base64.b64encode(packed).decode(),
            "summary": summary(evidence),
        }
        (packed_folder / f"{number:03d}.json").write_text(json.dumps(answer))
        (plain_folder / f"{number:03d}.json").write_text(json.dumps({"changed": False, "evidence": evidence}))
        plain_size += len(text)
        packed_size += len(packed)
    return packed_folder, plain_folder, plain_size // VARIANTS, packed_size // VARIANTS


def _variant(recorded: dict[str, Any], number: int) -> dict[str, Any]:
    """A host like the recorded one. What peers are compared by stays, but for the host's own address, which is no difference."""
    dice = random.Random(number)
    name, address = f"gpu{number:03d}", f"10.20.{number // 250}.{number % 250 + 1}"
    evidence: dict[str, Any] = json.loads(json.dumps(recorded).replace(f'"{_OWN}"', f'"{address}"'))
    evidence["host"].update(hostname=name, uptime_s=dice.uniform(1e4, 1e7))
    sections = evidence["sections"]
    for layer in ("nic", "softnet", "tcp"):
        counters = sections["drops"]["layers"].setdefault(layer, {})
        for counter in range(8):
            counters[f"simulated {counter}"] = {"delta": 0, "total": dice.randrange(10**7)}
    neighbours = sections["neighbours"]
    missing = SIZE - len(json.dumps(evidence, separators=(",", ":")))
    while missing > 0:
        mac = ":".join(f"{dice.randrange(256):02x}" for _ in range(6))
        where = "2001:db8:0:1:" + ":".join(f"{dice.randrange(1, 65536):x}" for _ in range(4))
        one = {"family": 6, "dev": "eth0", "address": where, "mac": mac, "state": "REACHABLE", "router": False}
        neighbours.append(one)
        missing -= len(json.dumps(one, separators=(",", ":"))) + 1
    return evidence
