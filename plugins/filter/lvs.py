# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the load balancer: servers from hosts, weights from capacity, keepalived's configuration, a drill's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ansible.errors import AnsibleFilterError, AnsibleUndefinedVariable

from ansible_collections.netops.fleet.plugins.module_utils._lvs import keepalived, model, traffic, weights


def lvs_weights(servers: list[dict[str, Any]], previous: dict[str, int] | None = None, **policy: Any) -> list[dict[str, Any]]:
    """Servers as of _lvs/weights.py → the same with ``weight`` and ``why``."""
    known = {one.name for one in fields(weights.Policy)}
    unknown = sorted(set(policy) - known)
    if unknown:
        raise AnsibleFilterError(f"lvs_weights: no option {', '.join(unknown)}; there are previous, {', '.join(sorted(known))}")
    before: dict[str, int] = {}
    for server in servers:
        for name in (str(server.get("name")), str(server.get("address"))):
            if name in (previous or {}):
                before.setdefault(str(server.get("name")), int((previous or {})[name]))
    try:
        found = weights.weights(servers, weights.Policy(**policy), before)
    except weights.Wrong as error:
        raise AnsibleFilterError(f"lvs_weights: {error}") from None
    return [{**server, "weight": one.weight, "why": one.why} for server, one in zip(servers, found)]


#: Of a server, by the host's variable; a host says its capacity, or a fact says it.
_MEMBER = {"capacity": "lvs_member_capacity", "health": "lvs_member_health", "state": "lvs_member_state"}


def lvs_members(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Hosts of the inventory → servers as of _lvs/weights.py, with their address."""
    found = []
    for host in hosts:
        known = hostvars[host]
        server: dict[str, Any] = {"name": str(host), "capacity": None}
        for field, variable in _MEMBER.items():
            try:
                if variable in known:
                    server[field] = known[variable]
            except AnsibleUndefinedVariable:
                # A fact that was not gathered is missing data, and missing data holds the last weight.
                continue
        address = known["lvs_member_address"] if "lvs_member_address" in known else known.get("ansible_host", host)
        found.append({**server, "address": str(address)})
    return found


def lvs_keepalived(director: dict[str, Any]) -> str:
    """A director as of _lvs/keepalived.py → keepalived.conf."""
    try:
        return keepalived.configuration(director)
    except model.Wrong as error:
        raise AnsibleFilterError(f"lvs_keepalived: {error}") from None


#: What only keepalived understands of a service, and what only weights are made from.
_KEEPALIVED = ("check", "interval", "quorum", "alpha")
_CAPACITY = ("name", "capacity", "health", "state", "since", "why")


def lvs_services(services: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Services as of the role → as of the module lvs_wrr."""
    return [
        {
            **{name: value for name, value in service.items() if name not in _KEEPALIVED},
            "servers": [
                {k: v for k, v in server.items() if k not in (*_KEEPALIVED, *_CAPACITY)}
                for server in service.get("servers") or []
            ],
        }
        for service in services
    ]


def lvs_drill(result: dict[str, Any], began: float, ended: float, budget: dict[str, float] | None = None) -> dict[str, Any]:
    """What lvs_traffic saw → the report of a drill."""
    return traffic.judge(result, float(began), float(ended), budget or {})


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "lvs_members": lvs_members,
            "lvs_weights": lvs_weights,
            "lvs_keepalived": lvs_keepalived,
            "lvs_services": lvs_services,
            "lvs_drill": lvs_drill,
        }
