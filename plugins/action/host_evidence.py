# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask one host for its evidence in one round trip, store it in the worker, hand back a summary of a few hundred bytes.

What a fleet of thousands pays is this file's run, once per host: no templating of other hosts' variables, no unpacking of
what came back, late imports.
"""

from __future__ import annotations

import binascii
import math
import os
import time
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import store
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_MODULE = "netops.fleet.host_evidence"
#: Options that may be set as variables of the role, for all hosts or for some.
_FROM_VARIABLES = (
    *(
        "target",
        "symptom",
        "window",
        "names",
        "ping",
        "http",
        "ntp",
        "services",
        "set_elements",
        "probe_timeout",
        "probe_peers",
        "mesh_peers",
        "capture",
    ),
)
_SEVERITIES = ("critical", "warning", "info")
_COVERAGE = ("ok", "partial", "failed", "skipped")


class Invalid(Exception):
    """The module's answer is not what the module returns."""


class ActionModule(ActionBase):
    """See plugins/modules/host_evidence.py for the documentation."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        base: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = {name: value for name, value in self._arguments(variables).items() if value is not None and value != ""}
        folder = arguments.pop("run", None)
        if folder is None:
            # No run to store it in: the module's own answer, evidence included, is what was asked for.
            arguments.pop("probe_peers", None)
            arguments.pop("mesh_peers", None)
            arguments.pop("capture", None)
            base.update(self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars))
            return base
        if not isinstance(folder, str) or not os.path.isdir(folder):
            raise AnsibleActionFail(
                f"run: found {clean(repr(folder), 200)}; it must be the folder that netops.fleet.fleet_run returned; run it first"
            )
        self._folder = str(folder)
        self._host = str(variables.get("inventory_hostname"))
        self._groups = sorted(str(group) for group in variables.get("group_names") or () if group != "ungrouped")
        self._started = time.time()
        self._notes: dict[str, Any] = {}
        if arguments.get("http"):
            from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.options import endpoints

            given = arguments["http"]
            arguments["http"] = endpoints(given if isinstance(given, list) else [given]) or given
        asked = arguments.pop("peers", None) or []
        count = arguments.pop("probe_peers", None) or 0
        source = variables.get("diagnose_from")
        if isinstance(source, str) and source:
            # Pairs: that host tries every other one and walks its packets out, the others walk packets that come from it.
            arguments["pair"] = "sender" if self._host == source else "receiver"
            every = sorted(str(host) for host in variables.get("ansible_play_hosts_all") or ())
            asked = [*asked, *([one for one in every if one != source][:64] if self._host == source else [source])]
            count = 0
        if asked or count:
            peers = self._peers(variables, list(asked), int(count), arguments.get("target"))
            if peers:
                arguments["peers"] = peers
        meshed = int(arguments.pop("mesh_peers", None) or 0)
        if meshed:
            drawn = self._addresses(variables, self._mesh(variables, meshed))
            arguments["mesh"] = [*(arguments.get("mesh") or []), *drawn]
        seconds = _seconds(arguments.pop("capture", None))
        try:
            if seconds:
                self._capture(seconds, arguments.get("target"), task_vars)
            sent = time.time()
            answer = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            self._store("unreachable", str(error))
            # The text may be what the other side printed: it is shown as text, not obeyed by the terminal.
            raise AnsibleConnectionFailure(clean(str(error).strip(), 1000)) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # The task's own timeout is no Exception; its class moved between versions of ansible-core.
            timeout = any(kind.__name__ in ("TaskTimeoutError", "AnsibleTimeoutError") for kind in type(error).__mro__)
            self._store("timeout" if timeout else "failed", str(error))
            raise
        received = time.time()
        if self._discovered_interpreter_key:
            base["ansible_facts"] = {self._discovered_interpreter_key: self._discovered_interpreter}
        if answer.get("failed"):
            reason = _failure(answer)
            self._store("failed", reason)
            base.update(failed=True, changed=False, msg=reason, netops_fleet={"host": self._host, "status": "failed"})
            return base
        try:
            packed = _packed(answer)
            summary = _summary(answer.get("summary"))
        except Invalid as error:
            reason = f"the host's answer is not evidence: {error}"
            self._store("invalid", reason)
            base.update(failed=True, changed=False, msg=reason, netops_fleet={"host": self._host, "status": "invalid"})
            return base
        file = self._store("ok", "", _clock(answer, sent, received), packed)
        base.update(changed=False, netops_fleet={"host": self._host, "status": "ok", "file": file, **summary})
        return base

    def _arguments(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The task's options; those it does not give come from the host's variables ``diagnose_<option>``.

        Templating ten options in the task costs every host a third of a whole ping. Here only what holds a template is templated.
        """
        found = dict(self._task.args)
        for name in _FROM_VARIABLES:
            value = variables.get(f"diagnose_{name}")
            if name not in found and value is not None:
                found[name] = value if _plain(value) else self._templar.template(value)
        return found

    def _capture(self, seconds: float, target: Any, task_vars: dict[str, Any] | None) -> None:
        """Capture before anything is probed: what is seen is the traffic of others. Without it the host is read all the same."""
        from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import target as targets
        from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import captures

        folder = captures.made(self._folder)
        about = targets.parse(str(target)).to_dict() if target else None
        asked = {"seconds": seconds, "filter": captures.expression(about)}
        answer = self._execute_module(module_name="netops.fleet.packet_capture", module_args=asked, task_vars=task_vars)
        if answer.get("failed"):
            captures.note(self._folder, self._host, None, _failure(answer))
            return
        try:
            _file, summary = captures.keep(folder, self._host, answer.get("pcap"))
        except captures.NoCapture as error:
            captures.note(self._folder, self._host, None, str(error))
            return
        captures.note(self._folder, self._host, summary)

    def _store(self, status: str, reason: str, clock: tuple[float, float] | None = None, packed: bytes | None = None) -> str:
        head = store.envelope(
            self._host,
            self._groups,
            status,
            reason=reason,
            started=self._started,
            finished=time.time(),
            clock=clock,
            notes=self._notes,
        )
        return store.write_evidence(self._folder, head, packed)

    def _peers(self, variables: dict[str, Any], asked: list[Any], count: int, target: Any) -> list[dict[str, str]]:
        """Hosts that this host shall try to reach: those asked for, and the next ``count`` of the play in sorted order.

        The order is a ring, so each host is probed by ``count`` others. Only the variables of those hosts are read, without
        templating: an address that is not written out is passed over, and the envelope says so.
        """
        from ansible_collections.netops.fleet.plugins.module_utils._diagnosis import target as targets

        found: list[dict[str, str]] = []
        names = [str(one) for one in asked if not isinstance(one, dict)]
        if count:
            try:
                own_service = target is not None and targets.parse(str(target)).address is None
            except targets.TargetError:
                own_service = False
            ring = sorted(str(host) for host in variables.get("ansible_play_hosts_all") or ()) if own_service else []
            if self._host in ring:
                place = ring.index(self._host)
                names += (ring[place + 1 :] + ring[:place])[:count]
        for one in asked:
            if isinstance(one, dict):  # as the module takes it: the address is known already
                found.append({"host": str(one.get("host")), "address": str(one.get("address"))})
        return found + self._addresses(variables, names)

    def _mesh(self, variables: dict[str, Any], count: int) -> list[str]:
        """The peers of this host's row of the mesh, drawn by the run's name: the same draw in every worker."""
        from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import mesh

        ring = sorted(str(host) for host in variables.get("ansible_play_hosts_all") or ())
        return mesh.select(ring, self._host, count, os.path.basename(self._folder)) if self._host in ring else []

    def _addresses(self, variables: dict[str, Any], names: list[str]) -> list[dict[str, str]]:
        """Inventory names with the addresses that are written out for them; the envelope says which have none."""
        from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.options import is_literal

        found: list[dict[str, str]] = []
        skipped: list[str] = []
        for name in dict.fromkeys(names):
            if is_literal(name):
                found.append({"host": name, "address": name.strip("[]")})
                continue
            raw = self._raw(variables.get("hostvars"), name)
            address = next((raw[key] for key in ("diagnose_address", "ansible_host") if is_literal(raw.get(key))), None)
            if address is None:
                skipped.append(name)
            else:
                found.append({"host": name, "address": str(address).strip("[]")})
        if skipped:
            known = self._notes.get("peers_skipped", [])
            self._notes["peers_skipped"] = list(dict.fromkeys([*known, *(clean(name, 200) for name in skipped)]))[:64]
        return found

    @staticmethod
    def _raw(hostvars: Any, name: str) -> dict[str, Any]:
        if hostvars is None or name not in hostvars:
            return {}
        raw = hostvars.raw_get(name)
        return raw if isinstance(raw, dict) else {}


def _seconds(given: Any) -> float:
    """How long to capture; a variable of one host is not among the options that were checked for the run."""
    try:
        seconds = float(given or 0)
        if isinstance(given, bool) or not 0 <= seconds <= 60:
            raise ValueError
    except (TypeError, ValueError):
        raise AnsibleActionFail(
            f"diagnose_capture: found {clean(repr(given), 100)}; allowed is a number from 0 to 60; give one, or leave it out"
        ) from None
    return seconds


def _plain(value: Any) -> bool:
    """Whether a value holds nothing to be templated."""
    if isinstance(value, str):
        return "{" not in value
    if isinstance(value, list):
        return all(_plain(one) for one in value)
    if isinstance(value, dict):
        return all(_plain(key) and _plain(one) for key, one in value.items())
    return True


def _failure(answer: dict[str, Any]) -> str:
    """Why the module failed, in one bounded line."""
    parts = [answer.get("msg"), *_causes(answer.get("exception")), answer.get("module_stderr")]
    told: list[str] = []
    for part in parts:
        text = clean(str(part or "").strip(), 400)
        if text and text not in told:
            told.append(text)
    return f"the module failed: {': '.join(told[:4])}" if told else "the module failed and did not say why"


def _causes(error: Any) -> list[str]:
    """The messages of an exception that ansible-core captured in a module: the event and what it was chained to."""
    found: list[str] = []
    event = getattr(error, "event", None)
    while event is not None and len(found) < 4:
        found.append(str(getattr(event, "msg", "")))
        event = getattr(getattr(event, "chain", None), "event", None)
    return found


def _packed(answer: dict[str, Any]) -> bytes:
    """The evidence as the host packed it. Only what can be told without unpacking it is checked here."""
    text = answer.get("evidence")
    if not isinstance(text, str):
        raise Invalid("it holds no text called evidence; is the module of this collection on the path?")
    if len(text) > store.MAX_RECEIVED * 4 // 3 + 4:
        raise Invalid(f"it is larger than {store.MAX_RECEIVED} bytes")
    try:
        packed = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeError) as error:
        raise Invalid(f"evidence is not base64 ({clean(error, 100)})") from None
    if len(packed) < 18 or packed[:3] != b"\x1f\x8b\x08":
        raise Invalid("evidence is not gzip")
    return packed


def _clock(answer: dict[str, Any], sent: float, received: float) -> tuple[float, float] | None:
    """Bounds of host clock minus controller clock: the host read its clock after ``sent`` and before ``received``."""
    first, last = answer.get("host_time_start"), answer.get("host_time_end")
    for value in (first, last):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
    low, high = float(last or 0) - received, float(first or 0) - sent
    # Bounds that cross mean that a clock was set in between: then nothing is known.
    return (low, high) if low <= high else None


def _summary(given: Any) -> dict[str, Any]:
    """The module's own summary, taken over part by part; nothing of it is shown as it came."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise Invalid("its summary is no mapping")
    top = []
    listed = given.get("top")
    for one in listed[:3] if isinstance(listed, list) else []:
        if isinstance(one, dict):
            top.append({key: clean(one.get(key) or "", 300) for key in ("id", "subject", "summary")})
    return {
        "findings": _numbers(given.get("findings"), _SEVERITIES),
        "top": top,
        "coverage": _numbers(given.get("coverage"), _COVERAGE),
    }


def _numbers(given: Any, keys: tuple[str, ...]) -> dict[str, int]:
    source = given if isinstance(given, dict) else {}
    return {
        key: value for key in keys if isinstance(value := source.get(key), int) and not isinstance(value, bool) and value >= 0
    }
