# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the lab: what breaks tcp/1678 on a host, each with the way back.

A fault is data: shell lines that bring it in, shell lines that take it away, and what a diagnosis must say about it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.lab.engine import LabError
from tests.lab.lab import Host

PORT = 1678


@dataclass(frozen=True)
class Fault:
    """name: as on the command line. inject, revert: shell lines run as root on the host, in order."""

    name: str
    summary: str
    inject: tuple[str, ...]
    revert: tuple[str, ...]


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "nft_drop",
            "an nftables rule in a table of its own drops the port, while iptables is empty",
            (
                "nft 'add table inet tenant_guard'",
                "nft 'add chain inet tenant_guard inbound { type filter hook input priority -10; policy accept; }'",
                "nft 'add rule inet tenant_guard inbound ct state established,related accept'",
                "nft 'add rule inet tenant_guard inbound tcp dport 22 accept'",
                f"nft 'add rule inet tenant_guard inbound tcp dport {PORT} counter drop'",
            ),
            ("nft 'delete table inet tenant_guard'",),
        ),
        Fault(
            "bpf_syn_drop",
            "five sched_cls programs of a security agent on eth0; one of the two on tcx drops SYN to the port",
            ("systemctl start netsec-agent.service",),
            ("systemctl stop netsec-agent.service",),
        ),
        Fault(
            "iptables_legacy_drop",
            "a rule of the old iptables back end drops the port; nft does not show it",
            (f"iptables-legacy -w -A INPUT -p tcp --dport {PORT} -j DROP",),
            (f"iptables-legacy -w -D INPUT -p tcp --dport {PORT} -j DROP",),
        ),
        Fault(
            "proxied_sender",
            "connections of this host to the port, wherever they go, are answered by itself, as by a proxy in between",
            (
                "nft 'add table ip sidecar'",
                "nft 'add chain ip sidecar out { type nat hook output priority -100; }'",
                f"nft 'add rule ip sidecar out tcp dport {PORT} redirect'",
            ),
            ("nft 'delete table ip sidecar'",),
        ),
        Fault(
            "loopback_only",
            "the service listens on 127.0.0.1 alone",
            (
                "mkdir -p /etc/systemd/system/model-server.service.d",
                "printf '[Service]\\nEnvironment=MODEL_SERVER_ADDRESS=127.0.0.1\\n'"
                " >/etc/systemd/system/model-server.service.d/address.conf",
                "systemctl daemon-reload",
                "systemctl restart model-server.service",
            ),
            (
                "rm -f /etc/systemd/system/model-server.service.d/address.conf",
                "systemctl daemon-reload",
                "systemctl restart model-server.service",
            ),
        ),
    )
}


def apply(host: Host, name: str, action: str = "inject") -> None:
    """Bring a fault in (action inject) or take it away (revert). Raises LabError."""
    if name not in FAULTS:
        raise LabError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    for line in getattr(FAULTS[name], action):
        host.run(line)


def connects(source: Host, address: str, port: int = PORT, timeout_s: float = 3) -> bool:
    """Does a TCP connection from one host to an address open? The kernel of the source is the witness."""
    code = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()"
    return source.run(["python3", "-c", code, address, str(port), str(timeout_s)], check=False).returncode == 0


def programs_of(host: Host, unit: str) -> dict[str, int]:
    """Name -> id of the BPF programs that a unit's main process holds open. (Ids are the machine's: other hosts have theirs.)"""
    line = (
        f"cat /proc/$(systemctl show -P MainPID {unit})/fdinfo/* 2>/dev/null | awk '$1 == \"prog_id:\" {{print $2}}' | sort -nu"
    )
    found = {}
    for number in host.run(line, check=False).stdout.split():
        shown = host.run(["bpftool", "-j", "prog", "show", "id", number]).stdout
        found[str(json.loads(shown)["name"])] = int(number)
    return found
