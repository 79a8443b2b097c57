# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""A run's options, checked once on the controller: what was found, what is allowed, what to do."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable
from typing import Any

from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import target as targets
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import cluster as clusters
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import symptoms
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

FAIL_ON = ("never", "critical", "warning", "any")
#: Options of the role, without its prefix. The role's own names are in messages, because that is what people set.
NAMES = (
    "target",
    "symptom",
    "window",
    "output",
    "names",
    "probe_peers",
    "mesh_peers",
    "capture",
    "ping",
    "http",
    "ntp",
    "services",
    "set_elements",
    "probe_timeout",
    "min_peers",
    "fail_on",
    "timeout",
    "hosts",
    "address",
    "from",
    "kubeconfig",
    "kube_context",
    "pod",
    "from_pod",
)


class OptionError(Exception):
    """One or more options are wrong; one line each."""


def check(given: dict[str, Any], prefix: str = "diagnose_") -> dict[str, Any]:
    """The options with their types, defaults filled in; raises OptionError naming every wrong one."""
    checker = _Checker(given, prefix)
    out: dict[str, Any] = {
        "target": checker.target(),
        "symptom": checker.choice("symptom", "", tuple(symptoms.FLOWS)),
        "window": checker.number("window", 2.0, 0.0, 60.0),
        "timeout": int(checker.number("timeout", 120, 5, 3600)),
        "probe_peers": int(checker.number("probe_peers", 3, 0, 16)),
        "mesh_peers": int(checker.number("mesh_peers", 0, 0, 64)),
        "capture": checker.number("capture", 0.0, 0.0, 60.0),
        "min_peers": int(checker.number("min_peers", 3, 2, 1000)),
        "fail_on": checker.choice("fail_on", "never", FAIL_ON),
        "names": checker.texts("names", 32, "names to resolve such as registry.example.com"),
        "ping": checker.texts("ping", 32, "addresses or names such as 192.0.2.1"),
        "http": checker.endpoints("http"),
        "ntp": checker.texts("ntp", 8, "time servers such as 192.0.2.1"),
        "services": checker.texts("services", 16, "units of systemd such as nginx.service"),
        "set_elements": int(checker.number("set_elements", 4096, 0, 1_000_000)),
        "probe_timeout": checker.number("probe_timeout", 2.0, 0.1, 30.0),
        "output": checker.text("output", "reports"),
    }
    out.update(checker.cluster())
    if out["symptom"] in ("port", "pair") and out["target"] is None:
        wanted = f"given with {prefix}target"
        checker.wrong("symptom", out["symptom"], wanted, f"say which traffic, for example -e {prefix}target=tcp/1678")
    watched = out["window"] + out["capture"]
    if watched and out["timeout"] <= watched:
        both = f"{prefix}window and {prefix}capture" if out["capture"] else f"{prefix}window"
        checker.wrong("timeout", out["timeout"], f"more than {both} ({watched:g} s)", "raise it or shorten the window")
    if checker.problems:
        raise OptionError("\n".join(checker.problems))
    return out


class _Checker:
    def __init__(self, given: dict[str, Any], prefix: str) -> None:
        self.given, self.prefix = given, prefix
        self.problems: list[str] = []

    def wrong(self, name: str, found: object, allowed: str, then: str) -> None:
        self.problems.append(f"{self.prefix}{name}: found {clean(repr(found), 120)}; allowed is {allowed}; {then}")

    def _set(self, name: str) -> Any:
        value = self.given.get(name)
        return None if value in (None, "") else value

    def target(self) -> dict[str, Any] | None:
        value = self._set("target")
        if value is None:
            return None
        try:
            return targets.parse(str(value)).to_dict()
        except targets.TargetError:
            self.wrong("target", str(value), targets.SYNTAX, f"give one of them, for example -e {self.prefix}target=tcp/1678")
            return None

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._set(name)
        if value is None:
            return default
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
            if not low <= number <= high or (isinstance(default, int) and number != int(number)):
                raise ValueError
        except (TypeError, ValueError):
            kind = "a whole number" if isinstance(default, int) else "a number"
            self.wrong(name, value, f"{kind} from {low:g} to {high:g}", f"give one, or leave it out for {default:g}")
            return default
        return number

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self._set(name)
        if value is None:
            return default
        if str(value) not in allowed:
            self.wrong(name, value, f"one of {', '.join(allowed)}", f"give one, or leave it out for {default}")
            return default
        return str(value)

    def texts(self, name: str, most: int, what: str) -> list[str]:
        value = self._set(name)
        if value is None:
            return []
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        fits = (
            isinstance(items, list) and len(items) <= most and all(isinstance(one, str) and 0 < len(one) <= 500 for one in items)
        )
        if not fits:
            self.wrong(name, value, f"a list of at most {most} {what}", "give such a list, or leave it out")
            return []
        return [str(one) for one in items]

    def endpoints(self, name: str) -> list[dict[str, Any]]:
        value = self._set(name)
        items = [value] if isinstance(value, (str, dict)) else value or []
        out = endpoints(items) if isinstance(items, list) and len(items) <= 32 else None
        if out is None:
            allowed = "a list of at most 32 URLs, or mappings with url and what netops.fleet.host_evidence documents for http"
            self.wrong(name, value, allowed, "give such as http://192.0.2.1:8000/health")
            return []
        # Headers and bodies may hold secrets: only where the probes go is written down.
        return [{"url": one["url"].split("?", 1)[0].split("@")[-1]} for one in out]

    def cluster(self) -> dict[str, str]:
        """Which pods are asked about. The kubeconfig is read by a task of its own; no path of it is written down."""
        out = {name: str(self._set(name) or "") for name in ("pod", "from_pod")}
        if out["pod"] and clusters.pod_port(out["pod"]) is None:
            allowed = "namespace/pod/protocol/port"
            self.wrong("pod", out["pod"], allowed, f"give such as -e {self.prefix}pod=ml/model-0/tcp/8000")
        if out["from_pod"] and not clusters.is_pod(out["from_pod"]):
            self.wrong("from_pod", out["from_pod"], "namespace/pod", f"give such as -e {self.prefix}from_pod=ml/client-7")
        given = next((name for name, value in out.items() if value), None)
        if given and not self._set("kubeconfig"):
            self.wrong(given, out[given], f"given with {self.prefix}kubeconfig", "say how the cluster is asked, or leave it out")
        return out

    def text(self, name: str, default: str) -> str:
        value = self._set(name)
        if value is None:
            return default
        if not isinstance(value, str) or "\0" in value or len(value) > 1000:
            self.wrong(name, value, "the path of a folder", f"give one, or leave it out for {default!r}")
            return default
        return str(value)


def truth(name: str, value: Any, default: bool) -> bool:
    """A yes-or-no option as it comes from a task or from the command line; raises OptionError."""
    if value is None or value == "":
        return default
    word = str(value).strip().lower()
    if word in ("yes", "true", "on", "1"):
        return True
    if word in ("no", "false", "off", "0"):
        return False
    raise OptionError(f"{name}: found {clean(repr(value), 120)}; allowed is true or false; give one of them")


def endpoints(items: list[Any]) -> list[dict[str, Any]] | None:
    """HTTP endpoints as the module takes them: a bare URL is a mapping with url. None when one of them is neither."""
    out: list[dict[str, Any]] = []
    for one in items:
        mapping = {"url": one} if isinstance(one, str) else one
        url = mapping.get("url") if isinstance(mapping, dict) else None
        if not isinstance(url, str) or not url.startswith(("http://", "https://")) or len(url) > 2000:
            return None
        out.append(mapping)
    return out


def unknown(variables: Iterable[str], prefix: str = "diagnose_") -> list[str]:
    """A line for every variable that looks like an option and is none: a typing error is otherwise silent."""
    lines = []
    for name in sorted(variables):
        short = name.removeprefix(prefix)
        if short == name or short in NAMES:
            continue
        near = difflib.get_close_matches(short, NAMES, 1)
        hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known are {', '.join(prefix + one for one in NAMES)}"
        lines.append(f"{clean(name, 80)} is not an option of the role{hint}")
    return lines


def is_literal(text: object) -> bool:
    """Whether the text is an IP address: nothing to be templated, nothing to be looked up."""
    if not isinstance(text, str) or len(text) > 64:
        return False
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
