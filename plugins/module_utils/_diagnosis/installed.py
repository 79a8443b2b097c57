# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""RDMA, haproxy, Ceph, Open vSwitch and GPUs, where they are installed. (D11, D31, D32)"""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import gpu
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.queues import window
from ansible_collections.netops.fleet.plugins.module_utils._firewall.fixes import word

#: Of the cable: one is one too many. Of the way: some are lost under load, and sent again.
_CABLE = (
    "symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors", "local_link_integrity_errors",
    "rx_icrc_encapsulated", "port_rcv_remote_physical_errors",
)  # fmt: skip
_WAY_LEAST = 10
#: Ceph's warnings that are about hosts, the network or what it waits for; the others are of its own housekeeping.
_CEPH = ("OSD_", "MON_", "MDS_", "MGR_", "SLOW_OPS", "PG_AVAILABILITY", "PG_DEGRADED", "FS_", "HOST_")


def find(facts: Facts) -> list[Finding]:
    found: dict[str, Any] = facts.section("installed") or {}
    return (
        rdma(facts)
        + haproxy(found.get("haproxy") or [])
        + ceph(found.get("ceph"))
        + ovs(found.get("ovs"))
        + gpu.find(found.get("gpu"))
    )


def rdma(facts: Facts) -> list[Finding]:
    layer = ((facts.section("drops") or {}).get("layers") or {}).get("rdma") or {}
    ports: dict[str, dict[str, int]] = {}
    for key, one in layer.items():
        port, _space, counter = key.rpartition(" ")
        if one.get("delta"):
            ports.setdefault(port, {})[counter] = int(one["delta"])
    out = []
    for port, grown in sorted(ports.items()):
        cable = {name: count for name, count in grown.items() if name in _CABLE}
        if not cable and sum(grown.values()) < _WAY_LEAST:
            continue
        why = "the cable or the transceiver damages what passes" if cable else "packets are lost on the way, and are sent again"
        out.append(
            _finding(
                "rdma-errors",
                "proven",
                "warning",
                port,
                f"RDMA port {port} counted {sum((cable or grown).values())} errors {window(facts)}: {why}.",
                [f"{name} grew by {count} {window(facts)}" for name, count in sorted(grown.items())],
                ["rdma link; ibstat", "# cable and transceiver, then the switch's port"]
                if cable
                else ["# is flow control on along the whole way (PFC, ECN)? see also the switches' counters"],
                ["D31"],
            )
        )
    return out


def haproxy(rows: list[dict[str, Any]]) -> list[Finding]:
    """Servers that their checks found down. Those in maintenance or drained are so on purpose."""
    dead = {one["proxy"] for one in rows if one["server"] == "BACKEND" and one["status"] == "DOWN"}
    out = []
    for one in rows:
        alone = one["proxy"] in dead
        if not one["status"].startswith("DOWN") or (one["server"] == "BACKEND") != alone:
            continue
        down = [
            row
            for row in rows
            if row["proxy"] == one["proxy"] and row["server"] != "BACKEND" and row["status"].startswith("DOWN")
        ]
        name = one["proxy"] if alone else f"{one['proxy']}/{one['server']}"
        out.append(
            _finding(
                "haproxy-server-down",
                "proven",
                "critical" if alone else "warning",
                name,
                f"haproxy has no server left for {name}." if alone else f"haproxy takes {name} for down: it is sent nothing.",
                [f"{row['server']}: {row['status']} for {row['since_s']} s, {row['check'] or 'no check'}" for row in down[:12]],
                ["# from here: does the server's port answer? netops.fleet.diagnose with it as the target says why not"],
                ["D31"],
            )
        )
    return out


def ceph(health: dict[str, Any] | None) -> list[Finding]:
    if not health or health["status"] == "HEALTH_OK":
        return []
    error = health["status"] == "HEALTH_ERR"
    telling = [one for one in health["checks"] if one["severity"] == "HEALTH_ERR" or one["name"].startswith(_CEPH)]
    if not error and not telling:
        return []
    told = telling or health["checks"]
    return [
        _finding(
            "ceph-unhealthy",
            "proven",
            "critical" if error else "warning",
            "Ceph",
            f"Ceph is {health['status']}: {'; '.join(one['text'] for one in told[:3]) or 'it does not say why'}.",
            [f"{one['name']} ({one['severity']}): {one['text']}" for one in health["checks"][:16]],
            ["ceph health detail"],
            ["D31"],
        )
    ]


def ovs(switch: dict[str, Any] | None) -> list[Finding]:
    if not switch:
        return []
    out = []
    if switch["behind"]:
        out.append(
            _finding(
                "ovs-not-applied",
                "proven",
                "critical",
                "ovs-vswitchd",
                f"ovs-vswitchd does not do what its database says: it is {switch['behind']} changes behind.",
                [f"next_cfg is {switch['behind']} above cur_cfg, also a second later"],
                [
                    "ovs-appctl -t ovs-vswitchd version",
                    "# no answer: systemctl restart openvswitch-switch",
                ],
                ["D32"],
            )
        )
    for bridge in switch["bridges"]:
        lost = [one["target"] for one in bridge["controllers"] if not one["connected"]]
        if lost and len(lost) == len(bridge["controllers"]):
            secure = bridge["fail_mode"] == "secure"
            out.append(
                _finding(
                    "ovs-controller-lost",
                    "proven",
                    "critical" if secure else "warning",
                    bridge["name"],
                    f"Bridge {bridge['name']} has lost its controllers: "
                    + ("flows that are not there yet are not made." if secure else "it forwards by itself, as a plain switch."),
                    [f"{target}: not connected" for target in lost] + [f"fail_mode {bridge['fail_mode'] or 'standalone'}"],
                    [f"ovs-vsctl get-controller {word(bridge['name'])}", "# is the controller's port reached from here?"],
                    ["D32"],
                )
            )
    for one in switch["interfaces"]:
        name = one["name"]
        if one["error"]:
            out.append(
                _finding(
                    "ovs-port-broken",
                    "proven",
                    "warning",
                    name,
                    f"Open vSwitch cannot use the port {name}: {one['error']}.",
                    [f"{name} (type {one['type'] or 'system'}): {one['error']}"],
                    [f"# is the device gone for good? ovs-vsctl --if-exists del-port {word(name)}"],
                    ["D32"],
                )
            )
        elif one["bfd"] == "down" or one["cfm_fault"] is True:
            way = "BFD" if one["bfd"] == "down" else "CFM"
            out.append(
                _finding(
                    "ovs-tunnel-down",
                    "proven",
                    "critical",
                    name,
                    f"The tunnel {name} to {one['options'].get('remote_ip', 'its other end')} is down: {way} hears nothing.",
                    [f"{name} ({one['type']}): {way} down", *(f"{key} {value}" for key, value in sorted(one["options"].items()))],
                    [f"ovs-appctl bfd/show {word(name)}", "# is the other end up, and its UDP port let in there?"],
                    ["D32", "D21"],
                )
            )
    return out


def _finding(
    name: str, grade: str, severity: str, subject: str, summary: str, evidence: list[str], fix: list[str], requirement: list[str]
) -> Finding:
    return Finding(name, grade, severity, subject, summary, evidence, fix, requirement)
