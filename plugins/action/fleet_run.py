# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a diagnosis: check the options, make the run's folder, write run.json. Touches the controller only."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import options, store


class ActionModule(ActionBase):
    """See plugins/modules/fleet_run.py for the documentation."""

    _supports_check_mode = True
    _requires_connection = False
    #: One folder for all hosts, also where the task forgets run_once.
    BYPASS_HOST_LOOP = True
    _VALID_ARGS = frozenset(name for name in options.NAMES if name not in ("hosts", "address", "kube_context"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        for line in options.unknown(variables):
            self._display.warning(line)
        try:
            checked = options.check(dict(self._task.args))
            hosts = play_hosts(variables)
            now = time.time()
            folder, run_id = store.make_run(checked.pop("output"), now)
            store.write_run(store.Run(folder, run_id, round(now, 3), checked.pop("target"), hosts, checked))
        except options.OptionError as error:
            raise AnsibleActionFail(f"The diagnosis was not started.\n{error}") from None
        except store.StoreError as error:
            raise AnsibleActionFail(f"The diagnosis was not started: diagnose_output: {error}") from None
        result.update(changed=False, folder=folder, id=run_id)
        return result


def play_hosts(variables: dict[str, Any]) -> dict[str, list[str]]:
    """Every host of the play with its groups, "all" and "ungrouped" left out. Reads names only, no host's variables."""
    hosts: dict[str, list[str]] = {str(host): [] for host in variables.get("ansible_play_hosts_all") or ()}
    for group, members in (variables.get("groups") or {}).items():
        if group in ("all", "ungrouped"):
            continue
        for member in members:
            if member in hosts:
                hosts[member].append(str(group))
    return {host: sorted(groups) for host, groups in hosts.items()}
