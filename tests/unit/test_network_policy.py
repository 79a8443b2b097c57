# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkPolicies of a cluster: the evaluator against examples and against another reading of the standard."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import network_policy as np

NAMESPACES = {"ml": {"kubernetes.io/metadata.name": "ml", "team": "a"}, "ops": {"kubernetes.io/metadata.name": "ops"}}


def item(namespace: str, name: str, labels: dict[str, str], address: str, node: str = "n1", **spec: Any) -> dict[str, Any]:
    """A pod as the API shows it."""
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"ports": [{"name": "http", "containerPort": 8000}]}], **spec},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def policy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"podSelector": {}, **spec}}


def end(thing: dict[str, Any]) -> np.End:
    one = np.pod(thing)
    return np.End(tuple(one["addresses"]), one)


MODEL = item("ml", "model-0", {"app": "model"}, "10.1.0.5")
CLIENT = item("ml", "client", {"app": "client"}, "10.1.1.6", "n2")
PROBE = item("ops", "probe", {"app": "probe"}, "10.1.1.7", "n2")


def allowed(policies: list[dict[str, Any]], sender: np.End | None, receiver: np.End, port: int = 8000, proto: str = "TCP") -> Any:
    found = np.sides(policies, NAMESPACES, np.Question(sender, receiver, proto, port))
    return np.every(side.allowed for side in found)


SELECTOR = {"matchLabels": {"app": "client"}}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, (True, True)),
        ({"from": []}, (True, True)),
        ({"from": [{"podSelector": SELECTOR}]}, (True, False)),
        ({"from": [{"podSelector": {}}]}, (True, False)),
        ({"from": [{"namespaceSelector": {}}]}, (True, True)),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}, (True, False)),
        ({"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "probe"}}}]}, (False, True)),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}, {"podSelector": SELECTOR}]}, (True, False)),
        (
            {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["client"]}]}}]},
            (True, False),
        ),
        (
            {
                "from": [
                    {
                        "namespaceSelector": {},
                        "podSelector": {"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]},
                    }
                ]
            },
            (True, True),
        ),
        ({"from": [{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}]}, (False, True)),
        ({"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}]}, (None, False)),
        ({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}, (False, False)),
        ({"from": [{"ipBlock": {"cidr": "10.1.1.0/24"}}]}, (None, None)),
        ({"from": [{"ipBlock": {"cidr": "10.1.1.0/24", "except": ["10.1.1.6/32"]}}]}, (False, None)),
        ({"ports": [{"port": 8000}]}, (True, True)),
        ({"ports": [{"port": 8000, "protocol": "UDP"}]}, (False, False)),
        ({"ports": [{"port": 7000, "endPort": 8000}]}, (True, True)),
        ({"ports": [{"port": 7000, "endPort": 7999}]}, (False, False)),
        ({"ports": [{"port": "http"}]}, (True, True)),
        ({"ports": [{"port": "grpc"}]}, (False, False)),
        ({"ports": [{"protocol": "TCP"}]}, (True, True)),
    ],
)
def test_one_ingress_rule(rule: dict[str, Any], expected: tuple[Any, Any]) -> None:
    """For a client of the same namespace, and for one of another."""
    policies = [policy("ml", "p", ingress=[rule])]
    assert (allowed(policies, end(CLIENT), end(MODEL)), allowed(policies, end(PROBE), end(MODEL))) == expected


def test_types_isolation_and_union() -> None:
    deny, let = policy("ml", "deny"), policy("ml", "let", ingress=[{"from": [{"podSelector": SELECTOR}]}])
    assert np.types({}) == {"Ingress"}
    assert np.types({"egress": [{}]}) == {"Ingress", "Egress"}
    assert np.types({"egress": [], "policyTypes": ["Egress"]}) == {"Egress"}
    assert allowed([], end(PROBE), end(MODEL)) is True
    assert allowed([deny], end(CLIENT), end(MODEL)) is False
    assert allowed([deny, let], end(CLIENT), end(MODEL)) is True
    assert allowed([deny], end(MODEL), end(PROBE)) is True, "answers and egress are not isolated by an ingress policy"
    assert allowed([policy("ops", "x")], end(CLIENT), end(MODEL)) is True, "a policy is about its own namespace"
    out = policy("ml", "out", policyTypes=["Egress"])
    assert allowed([out], end(CLIENT), end(PROBE)) is False
    assert allowed([out], end(PROBE), end(MODEL)) is True


def test_nodes_host_network_and_the_pod_itself() -> None:
    deny = [policy("ml", "deny", policyTypes=["Ingress", "Egress"])]
    near, far = np.End(("192.0.2.1",), node="n1"), np.End(("192.0.2.2",), node="n2")
    assert allowed(deny, near, end(MODEL)) is True, "the kubelet's probes"
    assert allowed(deny, far, end(MODEL)) is False
    assert allowed(deny, end(MODEL), near) is True
    assert allowed(deny, end(MODEL), end(MODEL)) is True
    host = end(item("ml", "agent", {"app": "client"}, "192.0.2.2", "n2", hostNetwork=True))
    assert allowed(deny, end(PROBE), host) is True, "no policy selects a pod in the host's network"
    assert allowed([policy("ml", "let", ingress=[{"from": [{"podSelector": SELECTOR}]}])], host, end(MODEL)) is None
    near_host = end(item("ml", "agent", {}, "192.0.2.1", "n1", hostNetwork=True))
    assert allowed(deny, near_host, end(MODEL)) is True


def test_outside_both_families_and_anything() -> None:
    block = [
        policy("ml", "p", ingress=[{"from": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}]}]),
    ]
    assert allowed(block, np.End(("2001:db8::1",)), end(MODEL)) is True
    assert allowed(block, np.End(("2001:db8:1::1",)), end(MODEL)) is False
    assert allowed(block, np.End(("192.0.2.1",)), end(MODEL)) is False
    assert allowed(block, np.End(("192.0.2.1", "2001:db8::1")), end(MODEL)) is None
    assert allowed(block, None, end(MODEL)) is True
    assert allowed([policy("ml", "p", ingress=[{"ports": [{"port": 1}]}])], None, end(MODEL)) is False
    assert np.sides(block, None, np.Question(None, np.End(("192.0.2.9",)), "TCP", 1)) == []


def test_what_is_told_names_the_policy_and_the_reason() -> None:
    side = np.sides(
        [policy("ml", "only-ops", ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"x": "y"}}}]}])],
        NAMESPACES,
        np.Question(end(CLIENT), end(MODEL), "TCP", 8000),
    )[-1]
    assert (side.direction, side.pod, side.policies) == ("Ingress", "pod ml/model-0", ["ml/only-ops"])
    assert side.why == [
        "ml/only-ops: a rule for namespaces [x=y] does not fit pod ml/client, its ports (all) fits tcp/8000",
    ]


# --- another reading: each policy becomes the set of (protocol, port) that it lets pass between two ends

KEYS, VALUES, PORTS = ("a", "b"), ("1", "2"), (80, 81, 8000)
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
expression = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(KEYS),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(VALUES), min_size=1),
        }
    ),
    st.fixed_dictionaries({"key": st.sampled_from(KEYS), "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
selector = st.fixed_dictionaries({}, optional={"matchLabels": labels, "matchExpressions": st.lists(expression, max_size=2)})
block = st.sampled_from(
    [
        {"cidr": "198.51.100.0/24"},
        {"cidr": "198.51.100.0/24", "except": ["198.51.100.0/25"]},
        {"cidr": "2001:db8::/32"},
        {"cidr": "203.0.113.0/24"},
    ]
)
peer = st.one_of(
    st.fixed_dictionaries({"podSelector": selector}),
    st.fixed_dictionaries({"namespaceSelector": selector}),
    st.fixed_dictionaries({"namespaceSelector": selector, "podSelector": selector}),
    st.fixed_dictionaries({"ipBlock": block}),
)
port = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"protocol": st.sampled_from(["TCP", "UDP"]), "port": st.sampled_from([*PORTS, "http", "web"])}
    ),
    st.just({"port": 80, "endPort": 81}),
)


def rules(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(
        st.fixed_dictionaries({}, optional={side: st.lists(peer, max_size=2), "ports": st.lists(port, max_size=2)}), max_size=2
    )


spec = st.fixed_dictionaries(
    {"podSelector": selector},
    optional={
        "ingress": rules("from"),
        "egress": rules("to"),
        "policyTypes": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True),
    },
)
world = st.fixed_dictionaries(
    {
        "policies": st.lists(st.tuples(st.sampled_from(["x", "y"]), spec), max_size=4),
        "namespaces": st.fixed_dictionaries({"x": labels, "y": labels}),
        "pods": st.lists(st.tuples(st.sampled_from(["x", "y"]), labels), min_size=2, max_size=2),
        "outside": st.sampled_from([None, "198.51.100.1", "198.51.100.200", "2001:db8::9"]),
        "out": st.booleans(),
    }
)


def chosen(sel: dict[str, Any], own: dict[str, str]) -> bool:
    """A selector by its sentence in the standard: every requirement, one after the other."""
    for key in sel.get("matchLabels", {}):
        if key not in own:
            return False
        if own[key] != sel["matchLabels"][key]:
            return False
    for requirement in sel.get("matchExpressions", []):
        present = requirement["key"] in own
        listed = present and own[requirement["key"]] in requirement.get("values", ())
        verdict = {"In": listed, "NotIn": not listed, "Exists": present, "DoesNotExist": not present}
        if not verdict[requirement["operator"]]:
            return False
    return True


def oracle(case: dict[str, Any], ends: list[Any], proto: str, number: int) -> bool:
    """ends: sender and receiver, each (namespace, labels) or an address."""
    for place, word, key in ((0, "Egress", "to"), (1, "Ingress", "from")):
        own, other = ends[place], ends[1 - place]
        if isinstance(own, str):
            continue
        isolated, granted = False, set()
        for namespace, body in case["policies"]:
            kinds = body.get("policyTypes") or ["Ingress"] + (["Egress"] if body.get("egress") else [])
            if namespace != own[0] or word not in kinds or not chosen(body["podSelector"], own[1]):
                continue
            isolated = True
            for rule in body.get(word.lower(), []):
                numbers = set()
                for entry in rule.get("ports") or [{"protocol": "TCP"}, {"protocol": "UDP"}]:
                    first = entry.get("port", None)
                    if first == "http":
                        span = range(8000, 8001) if not isinstance(ends[1], str) and entry.get("protocol") != "UDP" else range(0)
                    elif first == "web":
                        span = range(0)
                    else:
                        span = range(65536) if first is None else range(first, entry.get("endPort", first) + 1)
                    numbers |= {(entry.get("protocol", "TCP"), one) for one in PORTS if one in span}
                hit = not rule.get(key)
                for one in rule.get(key) or []:
                    if "ipBlock" in one:
                        inside = isinstance(other, str) and ipaddress.ip_address(other) in ipaddress.ip_network(
                            one["ipBlock"]["cidr"]
                        )
                        outside = isinstance(other, str) and any(
                            ipaddress.ip_address(other) in ipaddress.ip_network(hole) for hole in one["ipBlock"].get("except", [])
                        )
                        hit = hit or (inside and not outside)
                    elif not isinstance(other, str):
                        near = (
                            chosen(one["namespaceSelector"], case["namespaces"][other[0]])
                            if "namespaceSelector" in one
                            else other[0] == namespace
                        )
                        hit = hit or (near and ("podSelector" not in one or chosen(one["podSelector"], other[1])))
                if hit:
                    granted |= numbers
        if isolated and (proto, number) not in granted:
            return False
    return True


@settings(max_examples=600, deadline=None)
@given(world)
def test_the_evaluator_agrees_with_another_reading(case: dict[str, Any]) -> None:
    policies = [policy(namespace, f"p{place}", **body) for place, (namespace, body) in enumerate(case["policies"])]
    ends: list[Any] = list(case["pods"])
    mine = [end(item(space, f"pod{place}", own, f"10.0.0.{place}", f"n{place}")) for place, (space, own) in enumerate(ends)]
    if case["outside"]:
        place = 1 if case["out"] else 0
        ends[place], mine[place] = case["outside"], np.End((case["outside"],))
    for proto in ("TCP", "UDP"):
        for number in PORTS:
            found = np.sides(policies, case["namespaces"], np.Question(mine[0], mine[1], proto, number))
            assert np.every(side.allowed for side in found) is oracle(case, ends, proto, number), (proto, number)
