# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that come back at every boot, for the scenario "remediate": ``python -m tests.lab.lasting LAB`` brings them in.

gpu01: an nftables rule in /etc/nftables.conf. gpu02: a program of a service that is enabled. gpu03: a rule of iptables-legacy in
/etc/iptables/rules.v4. gpu04 stays well.
"""

from __future__ import annotations

import sys

from tests.lab import faults, tuning
from tests.lab.lab import Host, Lab

NFTABLES, RULES = "/etc/nftables.conf", "/etc/iptables/rules.v4"
_NFTABLES = f"""#!/usr/sbin/nft -f
flush ruleset
table inet guard {{
\tchain inbound {{
\t\ttype filter hook input priority filter; policy accept;
\t\ttcp dport 22 accept
\t\ttcp dport {faults.PORT} counter drop comment "tenant guard"
\t\ttcp dport 9100 accept
\t}}
}}
"""
_RULES = f"""*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -p tcp -m tcp --dport {faults.PORT} -m comment --comment "tenant guard" -j DROP
-A INPUT -p tcp -m tcp --dport 9100 -j ACCEPT
COMMIT
"""
_RESTORE = f"""[Unit]
Description=Rules of iptables
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/iptables-legacy-restore {RULES}
[Install]
WantedBy=multi-user.target
"""


def _put(host: Host, path: str, text: str) -> None:
    host.run(["install", "-D", "-m", "0644", "/dev/stdin", path], input=text.encode())


def bring_in(lab: Lab) -> None:
    one, two, three = (lab.hosts[name] for name in ("gpu01", "gpu02", "gpu03"))
    _put(one, NFTABLES, _NFTABLES)
    one.run("systemctl enable --quiet --now nftables.service")
    two.run("systemctl enable --quiet --now netsec-agent.service")
    _put(three, RULES, _RULES)
    _put(three, "/etc/systemd/system/rules.service", _RESTORE)
    three.run("systemctl enable --quiet --now rules.service")
    for host in (one, two, three):
        tuning.reboot(host)


if __name__ == "__main__":
    bring_in(Lab.attach(sys.argv[1]))
