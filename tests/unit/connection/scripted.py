# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to hosts whose modules answer from a script, call by call, so that a host can be lost at any task of a play."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: scripted
short_description: Answers call by call from a script
description: The folder named by SCRIPTED holds HOST.json, a list of {module, answer} or {module, lost}, and HOST.log.
version_added: 0.1.0
author: netops.fleet contributors (@netops-fleet)
options:
  host:
    description: Inventory name.
    vars:
      - name: inventory_hostname
"""

_MODULE = re.compile(rb"netops\.fleet\.plugins\.modules\.([a-z_]+)")


class Connection(ConnectionBase):
    """An entry of the script is for the next call of its module; a module without one answers that nothing was done."""

    transport = "scripted"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        found = _MODULE.search(in_data or b"")
        assert found is not None, "not one of the collection's modules"
        name = found[1].decode()
        base = os.path.join(os.environ["SCRIPTED"], self.get_option("host"))
        with open(f"{base}.log", "a", encoding="utf-8") as log:
            log.write(f"{name}\n")
        with open(f"{base}.json", encoding="utf-8") as stream:
            script: list[dict[str, Any]] = json.load(stream)
        entry = next((one for one in script if one["module"] == name), None)
        if entry is not None:
            script.remove(entry)
            with open(f"{base}.json", "w", encoding="utf-8") as stream:
                json.dump(script, stream)
        if entry is not None and entry.get("lost"):
            raise AnsibleConnectionFailure("no route to host")
        answer = {"changed": False, **(entry or {}).get("answer", {})}
        return (1 if answer.get("failed") else 0), json.dumps(answer).encode(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure("this host takes no files")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure("this host gives no files")

    def close(self) -> None:
        """Nothing to close."""
