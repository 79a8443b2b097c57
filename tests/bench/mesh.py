# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh between hosts: what a row costs a host, and what joining all rows costs the controller, at 10, 100 and 1,000 hosts.

The hosts are simulated: one namespace has the addresses of all others. A row goes over a real link; its counters are the
reference.
"""

from __future__ import annotations

import json
import time
import zlib
from typing import Any

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import mesh, mesh_view
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.kernel.conftest import Namespace

FLEETS, PEERS = (10, 100, 1000), 16
#: Hosts of one rack.
_RACK = 20

_ROW = """
import json, os, sys, time
from ansible_collections.netops.fleet.plugins.module_utils._evidence import mesh
def counters():
    names = ("tx_bytes", "rx_bytes")
    return [int(open(f"/sys/class/net/va/statistics/{name}").read()) for name in names]
peers = json.loads(sys.stdin.read())
mesh.read(peers[:1])  # imports and the neighbour entry are not part of the row
before, begun, used = counters(), time.monotonic(), time.process_time()
section = mesh.read(peers)
print(json.dumps({"row": section.data, "gaps": len(section.gaps), "seconds": time.monotonic() - begun,
                  "cpu": time.process_time() - used, "wire": [a - b for a, b in zip(counters(), before)]}))
"""


def run(options: Options) -> list[Figure]:
    figures = []
    host, others = Namespace(), Namespace()
    try:
        _join(host, others)
        for hosts in FLEETS:
            ring = [f"gpu-{number:04d}" for number in range(hosts)]
            address = {name: f"10.80.{number // 250}.{number % 250 + 2}" for number, name in enumerate(ring)}
            peers = [{"host": name, "address": address[name]} for name in mesh.select(ring, ring[0], PEERS, "bench")]
            done = host.run(
                ["python3", "-c", _ROW], input=json.dumps(peers), env={**Namespace.environment(), "PYTHONHASHSEED": "0"}
            )
            measured = json.loads(done.stdout)
            row = measured["row"]
            if measured["gaps"] or any(cell["status"] != "ok" for cell in row["cells"]):
                raise RuntimeError(f"the row of a healthy fleet is not whole: {row}")
            packed = len(zlib.compress(json.dumps(row, separators=(",", ":")).encode(), 6))
            controller = _controller(ring, row)
            options.say(f"{hosts} hosts: {row['packets']} packets in {measured['seconds']:.2f} s, joined in {controller:.2f} s")
            figures += [
                Figure(f"mesh of {hosts} hosts: probes of a host each second", row["packets"] / measured["seconds"], "/s"),
                Figure(
                    f"mesh of {hosts} hosts: bytes a host sends",
                    row["bytes"] / 1000,
                    "kB",
                    measured["wire"][0] / 1000,
                    "counted on the link",
                ),
                Figure(f"mesh of {hosts} hosts: bytes of evidence a host, compressed", packed / 1000, "kB"),
                Figure(f"mesh of {hosts} hosts: CPU of a host for its row", measured["cpu"], "s"),
                Figure(f"mesh of {hosts} hosts: CPU to join all rows and find one bad host", controller, "s"),
            ]
    finally:
        host.remove()
        others.remove()
    return figures


def _join(host: Namespace, others: Namespace) -> None:
    host.run(["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", others.name])
    host.run(["ip", "addr", "add", "10.80.255.254/16", "dev", "va"])
    host.run(["ip", "link", "set", "va", "up"])
    lines = [f"addr add 10.80.{number // 250}.{number % 250 + 2}/16 dev vb\n" for number in range(max(FLEETS))]
    others.run(["ip", "-batch", "-"], input="".join(lines) + "link set vb up\n")


def _controller(ring: list[str], row: dict[str, Any]) -> float:
    """CPU seconds for rows like this one of every host, the last host being silent to all."""
    hosts = {name: ["gpu-nodes", f"rack-{number // _RACK}"] for number, name in enumerate(ring)}
    bad = ring[-1]
    rows = {}
    for name in ring:
        drawn = mesh.select(ring, name, PEERS, "bench")
        cells = [{**cell, "peer": peer} for cell, peer in zip(row["cells"], drawn)]
        silent = {"status": "silent", "received": 0, "rtt_ms": None, "clock": None}
        rows[name] = {**row, "cells": [{**cell, **(silent if bad in (name, cell["peer"]) else {})} for cell in cells]}
    begun = time.process_time()
    joined = mesh_view.Mesh(hosts)
    for name, one in rows.items():
        joined.count(name, {"sections": {"mesh": one}})
    found = {name: joined.findings(name, []) for name in ring}
    head = joined.head(PEERS)
    used = time.process_time() - begun
    told = [(one["trouble"], one["names"]) for one in (head or {}).get("blamed", []) if one["trouble"] != "slow"]
    if told != [("unreached", [bad])] or [one["id"] for one in found[bad]] != ["mesh-host-bad"]:
        raise RuntimeError(f"the one bad host was not the one that is named: {told}")
    return used
