# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""TLS as clients meet it: certificates that are rejected or run out, versions that are too old. (D22, D26)"""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import Finding

#: Days before the end of a certificate from which on it is a finding.
DAYS = 14

#: What a client's refusal means, and what to do.
PROBLEMS = {
    "expired": ("its certificate has expired", "# renew the certificate and reload the server"),
    "not_yet_valid": ("its certificate is not valid yet", "# is the clock of this host right? else wait, or issue it again"),
    "incomplete_chain": (
        "the chain is incomplete, or ends at an authority this host does not know",
        "# let the server send its intermediate certificates (fullchain), or install the authority on this host",
    ),
    "self_signed": ("its certificate is signed by itself", "# issue one from an authority that this host knows"),
    "wrong_name": (
        "its certificate is for another name",
        "# ask for a name of the certificate, or issue one with this name (SAN)",
    ),
    "untrusted": (
        "its certificate is not trusted by this host",
        "# install the authority on this host, or use one that it knows",
    ),
    "revoked": ("its certificate was revoked", "# issue a new one"),
    "refused": ("client and server have no version or cipher of TLS in common", "# let the server offer TLS 1.2 and 1.3"),
}


def find(facts: Facts) -> list[Finding]:
    out = []
    begun = float((facts.evidence.get("window") or {}).get("start") or 0)
    for one in [*facts.probes("http"), *facts.probes("tls")]:
        if explained(one):
            out.append(_rejected(one, str(one["problem"])))
        expires = (one.get("tls") or {}).get("expires")
        left = _days_left(expires, begun)
        if left is not None and left < DAYS:
            out.append(_expires(one, left, str(expires)))
    return out


def explained(one: dict[str, Any]) -> bool:
    """Is a failed probe told here?"""
    return one.get("status") == "tls_error" and one.get("problem") in PROBLEMS


def _days_left(expires: object, now: float) -> float | None:
    if not isinstance(expires, str) or not now:
        return None
    try:
        import calendar

        end = calendar.timegm(time.strptime(expires, "%b %d %H:%M:%S %Y %Z"))
    except ValueError:
        return None
    return (end - now) / 86400


def _rejected(one: dict[str, Any], problem: str) -> Finding:
    why, fix = PROBLEMS[problem]
    return Finding(
        "certificate-rejected",
        "proven",
        "critical",
        str(one["target"]),
        f"{one['target']} is refused by clients: {why}.",
        [f"TLS: {one.get('detail')}", *(f"{name}: {ms} ms" for name, ms in (one.get("phases_ms") or {}).items())],
        [fix],
        ["D22", "D26"],
        {"problem": problem, "address": one.get("address")},
    )


def _expires(one: dict[str, Any], left: float, expires: str) -> Finding:
    return Finding(
        "certificate-expires",
        "proven",
        "warning",
        str(one["target"]),
        f"The certificate of {one['target']} ends in {left:.0f} days.",
        [f"valid until {expires}; a finding from {DAYS} days before on"],
        ["# renew it, and reload the server; why did the renewal not run by itself?"],
        ["D22", "D26"],
    )
