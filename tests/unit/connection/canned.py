# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that answers from files: hosts that reply, refuse, hang, die half-way or talk nonsense, without any host."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: canned
short_description: Answers from files
description: Each host's answer lies in the folder named by CANNED_ANSWERS.
version_added: 0.1.0
author: netops.fleet contributors (@netops-fleet)
options:
  host:
    description: Inventory name.
    vars:
      - name: inventory_hostname
"""


class Connection(ConnectionBase):
    """One JSON file per host: {mode, out}."""

    transport = "canned"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def _answer(self) -> dict[str, Any]:
        name = self.get_option("host").encode().hex()
        with open(os.path.join(os.environ["CANNED_ANSWERS"], name), encoding="utf-8") as stream:
            answer: dict[str, Any] = json.load(stream)
        return answer

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        answer = self._answer()
        mode = answer["mode"]
        if mode == "unreachable":
            raise AnsibleConnectionFailure("no route to \x1b[31mhost")
        if mode == "hang":
            signal.pause()
        if mode == "die":
            return 137, answer["out"].encode(), b"Killed"
        return 0, answer["out"].encode(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure("this host takes no files")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure("this host gives no files")

    def close(self) -> None:
        """Nothing to close."""
