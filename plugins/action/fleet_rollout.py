# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a rollout that concern the fleet as a whole: begin, open a batch, judge it, close it. Touches the controller only."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.collection_loader._collection_finder import _get_collection_role_path

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import rollout
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.told import registered, told


class ActionModule(ActionBase):
    """See plugins/modules/fleet_rollout.py for the documentation."""

    _supports_check_mode = True
    _requires_connection = False
    #: One step for all hosts of the batch, also where the task forgets run_once.
    BYPASS_HOST_LOOP = True
    _VALID_ARGS = frozenset(("step", "rollout", "output", "budget", "roles"))

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
        for role in rollout.names(self._task.args.get("roles", ())):
            place = _get_collection_role_path(role)
            if place is None or not os.path.isfile(os.path.join(place[1], "tasks", "change.yml")):
                raise rollout.RolloutError(f"{role} is no role with an entry point change (tasks/change.yml) on this controller")
        found = rollout.begin(
            str(self._task.args.get("output") or "reports"),
            hosts,
            self._task.args.get("budget", 0),
            self._task.args.get("roles", ()),
        )
        before = {host: told(variables, host, "__rollout_preflight") for host in hosts}
        # A rollout may do without a preflight; with one, a host that has no answer was lost in it.
        for host, answer in before.items() if any(before.values()) else ():
            if answer is None or answer.get("unreachable"):
                found.fail(host, "unreachable", "it did not answer the preflight")
            elif answer.get("failed"):
                found.fail(host, "sick", str(answer.get("msg") or "the preflight failed"))
        answer = {"folder": found.folder, "budget": found.budget, "bad": found.bad()}
        if found.over():
            answer.update(failed=True, msg=f"Nothing was touched: {found.stop()}.\n" + "\n".join(found.lines()))
        found.save()
        return answer

    def _open(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = rollout.load(self._task.args.get("rollout"))
        batch = [str(host) for host in variables.get("ansible_play_batch") or ()]
        found.batches.append(batch)
        for host in batch:
            if host not in found.reasons:
                found.hosts[host] = "running"
        found.save()
        self._display.display(f"batch {len(found.batches)}: {', '.join(batch)}")
        return {"batch": batch, "skip": found.bad(), "run": os.path.basename(found.folder)}

    def _judge(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Who of the open batch failed; who goes back; whose change is to be confirmed; whether the fleet's budget is spent."""
        found = rollout.load(self._task.args.get("rollout"))
        present = {str(host) for host in variables.get("ansible_play_batch") or ()}
        running = [host for host in found.batches[-1] if found.hosts[host] == "running"]
        touched, waiting = set(), set()
        for host in running:
            before = told(variables, host, "__rollout_before")
            gate = told(variables, host, "__rollout_gate")
            changes = [one for role in found.roles for one in registered(variables, host, f"__{role.rpartition('.')[2]}_")]
            failure = told(variables, host, "__rollout_failure")
            if before is not None and not before.get("failed") and not before.get("unreachable"):
                touched.add(host)
            if host not in present or any((one or {}).get("unreachable") for one in (before, gate, *changes)):
                found.fail(host, "unreachable", "it was lost on the way; its dead-man's timer, or rollback.yml, takes it back")
            elif failure is not None:
                found.fail(host, "failed" if host in touched else "sick", str(failure.get("msg")))
            elif gate is None:
                found.fail(host, "failed", "its health was not checked after the change")
            elif _armed(changes) - set((gate.get("health") or {}).get("waiting") or ()):
                found.fail(host, "failed", "its dead-man's timer took the change back before it could be confirmed")
            else:
                changed = any(one.get("changed") for one in changes)
                found.hosts[host] = "new" if changed or _mark(gate) != _mark(before) else "unchanged"
                if (gate.get("health") or {}).get("waiting"):
                    waiting.add(host)
        stop = found.over()
        if stop:
            found.stop()
        found.save()
        bad = found.bad()
        back = [host for host in running if host in touched and (host in bad or (stop and found.hosts[host] == "new"))]
        keep = [host for host in running if host in waiting and host not in bad and not stop]
        return {"stop": stop, "bad": bad, "back": back, "keep": keep, "reason": found.stopped}

    def _close(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = rollout.load(self._task.args.get("rollout"))
        for host in found.batches[-1]:
            # Of this batch: earlier ones have other hosts.
            back = told(variables, host, "__rollout_back")
            confirmed, late = told(variables, host, "__rollout_confirmed"), told(variables, host, "__rollout_late")
            if back is not None:
                self._returned(found, host, back)
            elif confirmed is not None and confirmed.get("unreachable"):
                found.fail(host, "unreachable", "it was lost before its change was confirmed; its dead-man's timer takes it back")
            elif confirmed is not None and confirmed.get("failed"):
                # With an answer of what it confirmed, only the task found that not all of it was.
                why = None if "confirmed" in confirmed else confirmed.get("msg") or "not confirmed"
                found.fail(host, "failed", str(why or "its change was taken back before it could be confirmed"))
                self._returned(found, host, late or {"failed": True})
        if not found.stopped and found.over():
            found.stop()
        found.save()
        waiting = [host for host, state in found.hosts.items() if state == "waiting"]
        if found.stopped or not waiting:
            for line in ["", f"rollout {found.folder}/{rollout.FILE}", *found.lines()]:
                self._display.display(line)
        answer: dict[str, Any] = {"hosts": found.hosts, "reasons": found.reasons, "stopped": found.stopped}
        if found.stopped:
            answer.update(failed=True, msg=f"The rollout stopped: {found.stopped}. Of the fleet are: {found.lines()[0]}.")
        return answer

    @staticmethod
    def _returned(found: rollout.Rollout, host: str, answer: dict[str, Any]) -> None:
        """What the way back of a host came to."""
        why = f"{found.reasons[host]}; " if host in found.reasons else ""
        if answer.get("unreachable"):
            found.fail(host, "unreachable", f"{why}it could not be reached to be rolled back")
        elif answer.get("failed"):
            found.fail(host, "failed", f"{why}not rolled back: {answer.get('msg') or 'its task did not run'}")
        else:
            found.hosts[host] = "rolled back" if answer.get("steps") else "unchanged"


def _armed(changes: list[dict[str, Any]]) -> set[str]:
    """Ids of the changes that wait for a confirmation; a task with a loop has one in each of its results."""
    each = [one for answer in changes for one in (answer, *(answer.get("results") or ())) if isinstance(one, dict)]
    return {str(one["change"]) for one in each if one.get("change") and one.get("confirm_within")}


def _mark(answer: dict[str, Any] | None) -> Any:
    """Where the host's journal stood when its health was looked at."""
    return ((answer or {}).get("health") or {}).get("mark")
