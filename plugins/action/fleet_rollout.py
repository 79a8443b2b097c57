# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a rollout that concern the fleet as a whole: begin, open a batch, judge it, close it. Touches the controller only."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import rollout


class ActionModule(ActionBase):
    """See plugins/modules/fleet_rollout.py for the documentation."""

    _supports_check_mode = True
    _requires_connection = False
    #: One step for all hosts of the batch, also where the task forgets run_once.
    BYPASS_HOST_LOOP = True
    _VALID_ARGS = frozenset(("step", "rollout", "output", "budget"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        steps = {"begin": self._begin, "open": self._open, "judge": self._judge, "close": self._close}
        step = self._task.args.get("step")
        if step not in steps:
            raise AnsibleActionFail(f"step is {step!r}; steps are {', '.join(steps)}")
        try:
            result.update(changed=False, **steps[step](variables))
        except rollout.RolloutError as error:
            raise AnsibleActionFail(f"The rollout was not gone on with.\n{error}") from None
        return result

    def _begin(self, variables: dict[str, Any]) -> dict[str, Any]:
        """After the preflight of the whole fleet: hosts that failed it count before anything is touched."""
        hosts = [str(host) for host in variables.get("ansible_play_hosts_all") or ()]
        found = rollout.begin(str(self._task.args.get("output") or "reports"), hosts, self._task.args.get("budget", 0))
        before = {host: _told(variables, host, "__tune_kernel_preflight") for host in hosts}
        # A rollout may do without a preflight; with one, a host that has no answer was lost in it.
        for host, answer in before.items() if any(before.values()) else ():
            if answer is None or answer.get("unreachable"):
                found.fail(host, "unreachable", "it did not answer the preflight")
            elif answer.get("failed"):
                found.fail(host, "sick", str(answer.get("msg") or "the preflight failed"))
        told = {"folder": found.folder, "budget": found.budget, "bad": found.bad()}
        if found.over():
            told.update(failed=True, msg=f"Nothing was touched: {found.stop()}.\n" + "\n".join(found.lines()))
        found.save()
        return told

    def _open(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = rollout.load(self._task.args.get("rollout"))
        batch = [str(host) for host in variables.get("ansible_play_batch") or ()]
        found.batches.append(batch)
        for host in batch:
            if host not in found.reasons:
                found.hosts[host] = "running"
        found.save()
        self._display.display(f"batch {len(found.batches)}: {', '.join(batch)}")
        return {"batch": batch, "skip": found.bad()}

    def _judge(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Who of the open batch failed; whether the fleet's budget is spent."""
        found = rollout.load(self._task.args.get("rollout"))
        present = {str(host) for host in variables.get("ansible_play_batch") or ()}
        for host in found.batches[-1]:
            if found.hosts[host] != "running":
                continue
            failure = _told(variables, host, "__tune_kernel_failure")
            change = _told(variables, host, "__tune_kernel_change") or {}
            if failure is not None:
                back = _told(variables, host, "__tune_kernel_back")
                rolled = back is None or not back.get("failed")
                before = _told(variables, host, "__tune_kernel_before")
                untouched = "sick" if before is None or before.get("failed") else "unchanged"
                touched = bool(change.get("change"))
                found.fail(host, ("rolled back" if rolled else "failed") if touched else untouched, str(failure.get("msg")))
            elif host not in present:
                found.fail(host, "unreachable", "it was lost on the way; its dead-man's timer, or rollback.yml, takes it back")
            else:
                found.hosts[host] = "new" if change.get("changed") else "unchanged"
        stop = found.over()
        if stop:
            found.stop()
        found.save()
        return {"stop": stop, "bad": found.bad(), "reason": found.stopped}

    def _close(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = rollout.load(self._task.args.get("rollout"))
        for host in found.batches[-1]:
            late = _told(variables, host, "__tune_kernel_confirmed")
            if late is not None and (late.get("failed") or late.get("unreachable")):
                found.fail(host, "rolled back" if late.get("failed") else "unreachable", str(late.get("msg") or "not confirmed"))
        if not found.stopped and found.over():
            found.stop()
            found.save()
        elif found.stopped:
            for host in found.batches[-1]:
                if found.hosts[host] != "new":
                    continue
                back = _told(variables, host, "__tune_kernel_batch_back")
                done = back is not None and not back.get("failed") and not back.get("unreachable")
                found.hosts[host] = "rolled back" if done else "failed"
                if not done:
                    found.fail(host, "failed", str((back or {}).get("msg") or "it could not be rolled back with its batch"))
            found.save()
        waiting = [host for host, state in found.hosts.items() if state == "waiting"]
        if found.stopped or not waiting:
            for line in ["", f"rollout {found.folder}/{rollout.FILE}", *found.lines()]:
                self._display.display(line)
        told: dict[str, Any] = {"hosts": found.hosts, "reasons": found.reasons, "stopped": found.stopped}
        if found.stopped:
            end = f"Its last batch is rolled back, {len(waiting)} hosts are untouched."
            told.update(failed=True, msg=f"The rollout stopped: {found.stopped}. {end}")
        return told


def _told(variables: dict[str, Any], host: str, name: str) -> dict[str, Any] | None:
    """What a task registered on a host, without templating; None when it did not run there, or was skipped."""
    hostvars = variables.get("hostvars")
    if hostvars is None or host not in hostvars:
        return None
    raw = hostvars.raw_get(host)
    found = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(found, dict) or found.get("skipped"):
        return None
    return found
