# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a run's folder into report.json, report.html and the summary on the terminal. Touches the controller only."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils import color

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import options, report, store, terminal
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean


class ActionModule(ActionBase):
    """See plugins/modules/fleet_report.py for the documentation."""

    _supports_check_mode = True
    _requires_connection = False
    #: One report for all hosts, also where the task forgets run_once.
    BYPASS_HOST_LOOP = True
    _VALID_ARGS = frozenset(("run", "min_peers", "fail_on", "rejudge"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        folder = arguments.get("run")
        if not isinstance(folder, str) or not folder:
            raise AnsibleActionFail(
                f"run: found {clean(repr(folder), 120)}; it must be the folder of a run; give one, such as reports/latest"
            )
        try:
            given = {key: arguments.get(key) for key in ("min_peers", "fail_on")}
            checked = options.check(given, prefix="")
            rejudge = options.truth("rejudge", arguments.get("rejudge"), False)
            run = store.read_run(os.path.realpath(os.path.expanduser(folder)))
            built = report.build(run, checked["min_peers"], _judge() if rejudge else None)
        except (options.OptionError, store.StoreError) as error:
            raise AnsibleActionFail(f"The report was not written: {error}") from None
        except OSError as error:
            raise AnsibleActionFail(
                f"The report was not written: {error.filename}: {error.strerror}; the run's folder must be writable"
            ) from None
        self._show(built)
        totals = built.head["totals"]
        result.update(changed=False, json=built.json, html=built.html, totals=totals)
        wrong = failure(built, checked["fail_on"])
        if wrong:
            result.update(failed=True, msg=wrong)
        return result

    def _show(self, built: report.Built) -> None:
        signs = bool(color.ANSIBLE_COLOR)
        for line in terminal.lines(built, self._display.columns or 100, signs):
            self._display.display("".join(color.stringc(text, shade) if signs and shade else text for text, shade in line))


def _judge() -> report.Judge:
    from ansible_collections.netops.fleet.plugins.module_utils._diagnosis.judge import judge

    return judge


def failure(built: report.Built, fail_on: str) -> str | None:
    """Why the run counts as failed: hosts with findings as bad as ``fail_on``; "any" takes hosts without evidence as well."""
    wanted = {"never": (), "critical": ("critical",), "warning": ("critical", "warning"), "any": ("critical", "warning", "info")}
    bad = [one for one in built.briefs if any(one.counts[severity] for severity in wanted[fail_on])]
    silent = [one for one in built.briefs if one.status != "ok"] if fail_on == "any" else []
    if not bad and not silent:
        return None
    parts = []
    if bad:
        parts.append(f"{len(bad)} of {len(built.briefs)} hosts have findings of this severity or worse: {_names(bad)}")
    if silent:
        parts.append(f"{len(silent)} of {len(built.briefs)} hosts gave no evidence: {_names(silent)}")
    return f"diagnose_fail_on is {fail_on}: {'; '.join(parts)}. See {built.html}"


def _names(briefs: list[report.Brief]) -> str:
    names = ", ".join(clean(one.name, 60) for one in briefs[:10])
    return names + (f" and {len(briefs) - 10} more" if len(briefs) > 10 else "")
