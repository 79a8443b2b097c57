# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""Which of iptables' commands speaks to which back end."""

from __future__ import annotations

from ansible_collections.netops.fleet.plugins.module_utils._kernel import command


def tool(verb: str, family: str, legacy: bool) -> str | None:
    """The command of a variant: its own name where the distribution has it, else the plain one if it is that variant.

    verb: save, restore. family: ip or ip6.
    """
    plain = "ip6tables" if family == "ip6" else "iptables"
    named = f"{plain}-{'legacy' if legacy else 'nft'}-{verb}"
    if command.find(named):
        return named
    if command.find(f"{plain}-{verb}"):
        answer = command.run([f"{plain}-{verb}", "--version"], timeout=5)
        flavour = "legacy" if legacy else "nf_tables"
        if answer.ok and (flavour in answer.out or ("(" not in answer.out and legacy)):
            return f"{plain}-{verb}"
    return None
