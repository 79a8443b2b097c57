# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the capture on the host, keep its file on the controller, hand back what it shows. The file is not trusted."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import captures
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

_MODULE = "netops.fleet.packet_capture"


class ActionModule(ActionBase):
    """See plugins/modules/packet_capture.py for the documentation."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {name: value for name, value in self._task.args.items() if value is not None and value != ""}
        folder = arguments.pop("folder", None)
        place = None if folder is None else _folder(folder)
        answer = self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars)
        if place is None or answer.get("failed"):
            return {**result, **answer}
        host = str((task_vars or {}).get("inventory_hostname"))
        try:
            file, summary = captures.keep(place, host, answer.pop("pcap", None))
        except captures.NoCapture as error:
            raise AnsibleActionFail(f"{clean(host, 100)}: {error}") from None
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename}: {error.strerror}; folder must be one that you may write") from None
        result.update(answer, file=file, summary=summary)
        return result


def _folder(given: Any) -> str:
    """The folder, made for its owner alone; one that others may look into is not used."""
    if not isinstance(given, str) or "\0" in given:
        raise AnsibleActionFail(f"folder: found {clean(repr(given), 100)}; it must be the path of a folder on the controller")
    place = os.path.abspath(os.path.expanduser(given))
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        found = os.stat(place)
    except OSError as error:
        raise AnsibleActionFail(
            f"folder: {clean(place, 200)} cannot be made: {error.strerror}; give one that you may write"
        ) from None
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise AnsibleActionFail(
            f"folder: {clean(place, 200)} is open to others (mode {found.st_mode & 0o777:o}); a capture may hold secrets: "
            "chmod 0700 it, or give one that is not there yet"
        )
    return place
