# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""One host's findings and its answer for the target. Pure: evidence in, findings out; the same on the host and in a replay."""

from __future__ import annotations

from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import (
    advice,
    basics,
    causes,
    configured,
    configured_routes,
    firewall,
    flows,
    hooked,
    hops,
    installed,
    interrupts,
    kubernetes,
    locality,
    losses,
    machine,
    naming,
    nat,
    pairs,
    parameters,
    physical,
    ports,
    queues,
    reach,
    services,
    tls,
    traffic_control,
    transport,
    tunnels,
    ways,
)
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.answer import answer
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.facts import Facts
from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.model import order
from ansible_collections.netops.fleet.plugins.module_utils._firewall import model


def judge(evidence: dict[str, Any], ruleset: model.Ruleset | None = None) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """(findings, answer) of one host's evidence; findings sorted, what breaks traffic for certain first.

    ruleset: the packet filter as it was read, where it is at hand; else it is rebuilt from the evidence.

    Raises KeyError, TypeError or ValueError on evidence of another shape: the caller reports that host as invalid.
    """
    facts = Facts(evidence, ruleset)
    walked = firewall.verdicts(facts)
    found = ports.find(facts, walked.moved()) + firewall.find(facts, walked) + queues.find(facts) + losses.find(facts)
    found += basics.find(facts) + reach.find(facts) + hooked.find(facts, walked) + parameters.find(facts)
    found += traffic_control.find(facts, walked)
    found += ways.find(facts, walked) + naming.find(facts) + transport.find(facts) + locality.find(facts) + interrupts.find(facts)
    found += tls.find(facts) + machine.find(facts) + tunnels.find(facts)
    found += nat.find(facts) + hops.find(facts) + physical.find(facts) + configured.find(facts) + services.find(facts)
    found += configured_routes.find(facts)
    found += installed.find(facts) + flows.find(facts)
    found += kubernetes.find(facts) + advice.find(facts)
    found.sort(key=order)
    said = answer(facts, walked, found)
    found += pairs.find(facts)  # what stops this host as a sender is no answer about its own service
    return [one.to_dict() for one in sorted(causes.attach(facts, found), key=order)], said
