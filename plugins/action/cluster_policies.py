# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a cluster's NetworkPolicies, pods, namespaces and nodes through kubernetes.core into a run's folder. Changes nothing."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import cluster, store
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_MODULE = "kubernetes.core.k8s_info"


class ActionModule(ActionBase):
    """See plugins/modules/cluster_policies.py for the documentation."""

    _supports_check_mode = True
    BYPASS_HOST_LOOP = True
    _VALID_ARGS = frozenset(("run", "kubeconfig", "context"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = {name: str(self._task.args.get(name) or "") for name in self._VALID_ARGS}
        for name in ("run", "kubeconfig"):
            if not given[name]:
                raise AnsibleActionFail(f"{name}: found nothing; it must be a path on the controller; give one")
        path = os.path.abspath(os.path.expanduser(given["kubeconfig"]))

        def ask(version: str, kind: str) -> list[dict[str, Any]] | None:
            return self._ask(path, given["context"], version, kind, task_vars or {})

        try:
            with open(path, "rb"):
                pass  # a module would say less well what is wrong with the path
            kept = cluster.read(ask)
        except OSError as error:
            why = f"{path}: {error.strerror}; give the path of a kubeconfig on the controller"
            kept = cluster.read(_refuse(f"diagnose_kubeconfig: {why}"))
        try:
            store.write_cluster(os.path.realpath(os.path.expanduser(given["run"])), kept)
        except OSError as error:
            raise AnsibleActionFail(f"run: {error.filename}: {error.strerror}; it must be the folder of a run") from None
        for gap in kept["gaps"]:
            self._display.display(f"network policies: {gap['what']}: {gap['why']}")
        counts = {name: len(kept[name] or ()) for name in ("policies", "pods", "namespaces", "nodes")}
        result.update(changed=False, status=kept["status"], gaps=kept["gaps"], counts=counts)
        return result

    def _ask(
        self, kubeconfig: str, context: str, version: str, kind: str, variables: dict[str, Any]
    ) -> list[dict[str, Any]] | None:
        arguments: dict[str, Any] = {"api_version": version, "kind": kind, "kubeconfig": kubeconfig}
        if context:
            arguments["context"] = context
        try:
            answer = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=variables)
        except AnsibleError as error:
            if _MODULE in str(error) and "not found" in str(error):
                raise cluster.ClusterError(
                    "the collection kubernetes.core is not installed on the controller; "
                    "ansible-galaxy collection install kubernetes.core && pip install kubernetes"
                ) from None
            raise cluster.ClusterError(f"kubernetes.core: {clean(error, 300)}") from None
        if answer.get("failed"):
            said = " ".join(str(answer.get("msg") or answer.get("module_stderr") or "it gave no reason").split())
            if "required Python library" in said:
                said = f"{said.partition('. ')[0]}; pip install kubernetes, for the Python that runs Ansible"
            raise cluster.ClusterError(f"{kind} could not be listed: {clean(said, 400)}")
        if answer.get("api_found") is False:
            return None
        found: list[dict[str, Any]] = answer.get("resources") or []
        return found


def _refuse(why: str) -> cluster.Reader:
    def ask(_version: str, _kind: str) -> list[dict[str, Any]] | None:
        raise cluster.ClusterError(why)

    return ask
