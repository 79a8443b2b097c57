# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The commands that let a packet pass: by handle for nft, by the exact ``-D`` line for iptables. Pure text."""

from __future__ import annotations

import re
import shlex

from ansible_collections.netops.fleet.plugins.module_utils._firewall import model
from ansible_collections.netops.fleet.plugins.module_utils._firewall.packet import SCTP, TCP, UDP, Packet

_PLAIN = re.compile(r"\A[A-Za-z0-9_@%+=:,./-]+\Z")


def word(text: str) -> str:
    """One word of a command line, quoted when it needs to be. Control characters never reach a terminal."""
    clean = "".join(one if one.isprintable() else "?" for one in text)
    return clean if _PLAIN.match(clean) else shlex.quote(clean)


def tool(backend: str, family: str) -> str:
    """The iptables command that edits this back end."""
    return ("ip6tables" if family == "ip6" else "iptables") + ("-legacy" if backend == model.IPTABLES_LEGACY else "-nft")


def delete(rule: model.Rule) -> str:
    """The command that removes exactly this rule."""
    if rule.backend == model.NFT:
        place = f"{rule.family} {word(rule.table)} {word(rule.chain)}"
        if rule.handle is None:
            return f"# nft -a list chain {place}   # find the rule's handle, then: nft delete rule {place} handle N"
        return f"nft delete rule {place} handle {rule.handle}"
    command = f"{tool(rule.backend, rule.family)} -t {word(rule.table)}"
    if rule.text.startswith("-A ") and rule.text.isprintable() and _shell_reads_as_written(rule.text):
        return f"{command} -D {rule.text[3:]}"
    return f"{command} -D {word(rule.chain)} {rule.line}"


def _shell_reads_as_written(text: str) -> bool:
    """iptables-save quotes in its own way: \\' inside double quotes means ' there and \\' to a shell.

    Only text without anything a shell would expand is printed as a command; other rules are named by their line.
    """
    return not any(one in text for one in "\\'`$;&|<>()*?[]{}~#") and text.count('"') % 2 == 0


def allow(chain: model.Chain, packet: Packet) -> str:
    """The command that accepts the packet ahead of a dropping policy."""
    name = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}.get(packet.proto)
    if chain.backend == model.NFT:
        match = f"{name} dport {packet.dport}" if name and packet.dport else f"meta l4proto {packet.proto}"
        return f"nft insert rule {chain.family} {word(chain.table)} {word(chain.name)} {match} accept"
    family = "ip6" if packet.family == 6 else "ip"
    match = f"-p {name or packet.proto}" + (f" --dport {packet.dport}" if name and packet.dport else "")
    return f"{tool(chain.backend, family)} -t {word(chain.table)} -I {word(chain.name)} {match} -j ACCEPT"


#: Rules of a program are changed through it, or it writes them again.
_THROUGH = {
    "firewalld": "firewall-cmd --permanent --add-port={port}/{proto} && firewall-cmd --reload",
    "ufw": "ufw allow {port}/{proto}",
}


def through_owner(owner: str, packet: Packet) -> str | None:
    """The front end's own command for owners that have one, None for others."""
    form = _THROUGH.get(owner)
    name = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}.get(packet.proto)
    return form.format(port=packet.dport, proto=name) if form and name and packet.dport else None
