# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sort the hosts of a play by their rules, and report who differs. Touches the controller only."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import alike, store
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.told import groups_of, told

FILE = "firewall.json"


class ActionModule(ActionBase):
    """See plugins/modules/fleet_firewall.py for the documentation."""

    _supports_check_mode = True
    _requires_connection = False
    #: One step for all hosts, also where the task forgets run_once.
    BYPASS_HOST_LOOP = True
    _VALID_ARGS = frozenset(("step", "read", "rules", "folder"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        steps = {"sort": self._sort, "report": self._report}
        step = self._task.args.get("step")
        if step not in steps:
            raise AnsibleActionFail(f"step is {step!r}; steps are {', '.join(steps)}")
        for name in ("read", *(("rules", "folder") if step == "report" else ())):
            value = self._task.args.get(name)
            if not isinstance(value, str) or not value:
                raise AnsibleActionFail(f"{name} is {value!r}; step {step} needs it")
        names = [str(one) for one in variables.get("ansible_play_hosts_all") or ()]
        read = str(self._task.args["read"])
        hosts = [alike.host(name, groups_of(variables, name), told(variables, name, read)) for name in names]
        result.update(changed=False, **steps[step](variables, hosts))
        return result

    def _sort(self, _variables: dict[str, Any], hosts: list[alike.Host]) -> dict[str, Any]:
        needed = set(alike.compared(alike.grouped(hosts)))
        first = alike.makers(hosts)
        return {
            "makers": {name: mark for mark, name in first.items()},
            "compare": [name for mark, name in first.items() if mark in needed],
        }

    def _report(self, variables: dict[str, Any], hosts: list[alike.Host]) -> dict[str, Any]:
        folder, rules = os.path.abspath(os.path.expanduser(self._task.args["folder"])), str(self._task.args["rules"])
        first = alike.makers(hosts)
        answers = {mark: told(variables, name, rules) for mark, name in first.items()}
        listings = {mark: found for mark, answer in answers.items() if (found := alike.listing(answer)) is not None}
        report = alike.report(hosts, listings)
        path = os.path.join(folder, FILE)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            store.write_atomic(path, json.dumps(report, indent=1).encode("utf-8") + b"\n")
        except OSError as error:
            raise AnsibleActionFail(
                f"The report was not written: {path}: {error.strerror}; give a folder you may write"
            ) from None
        for line in ["", f"rules of the fleet {path}", *alike.lines(report)]:
            self._display.display(line)
        return {"report": path, "kinds": len(first), "plans": self._plans(folder, hosts, first, answers)}

    @staticmethod
    def _plans(
        folder: str, hosts: list[alike.Host], first: dict[str, str], answers: dict[str, dict[str, Any] | None]
    ) -> dict[str, str]:
        """Host → the plan that was brought here for its rules; "" where there is nothing to fold. Others plan for themselves."""
        found: dict[str, str] = {}
        for mark, answer in answers.items():
            summary = (answer or {}).get("summary")
            path = os.path.join(folder, "plans", f"{mark}.json")
            if answer is None or not isinstance(summary, dict) or (summary.get("chains") and not os.path.isfile(path)):
                continue
            if summary.get("chains"):
                os.chmod(path, 0o600)  # it was fetched with the mode that any file gets
            found.update(dict.fromkeys(alike.served(hosts, first[mark], answer), path if summary.get("chains") else ""))
        return found
