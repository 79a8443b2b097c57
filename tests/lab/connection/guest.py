# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a network namespace of a virtual machine of the tests, through its agent."""

from __future__ import annotations

import base64
import json
import os
import socket
import sysconfig
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: guest
short_description: A namespace in a virtual machine of the tests
description: The agent's port is GUEST_PORT of the environment.
version_added: 0.1.0
author: netops.fleet contributors (@netops-fleet)
options:
  netns:
    description: The namespace.
    vars:
      - name: guest_netns
"""


def _command(argv: list[str], data: bytes) -> dict[str, Any]:
    return {"op": "exec", "argv": argv, "timeout": 600, "stdin": base64.b64encode(data).decode()}


class Connection(ConnectionBase):
    """Commands and files over the agent's requests."""

    transport = "guest"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        request["netns"] = self.get_option("netns")
        try:
            with socket.create_connection(("127.0.0.1", int(os.environ["GUEST_PORT"])), 10) as connection:
                connection.settimeout(620)
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as stream:
                    answer: dict[str, Any] = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise AnsibleConnectionFailure(str(error)) from error
        if "error" in answer:
            raise AnsibleConnectionFailure(answer["error"])
        return answer

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if in_data and b"_ANSIBALLZ_WRAPPER" in in_data:  # a module, for a Python's standard input
            libraries = [sysconfig.get_paths()["purelib"]]
            said = self._ask({"op": "python", "source": in_data.decode(), "libraries": libraries})
        else:
            said = self._ask(_command(["sh", "-c", cmd], in_data or b""))
        return said["rc"], said["out"].encode(), said["err"].encode()

    def put_file(self, in_path: str, out_path: str) -> None:
        with open(in_path, "rb") as file:
            said = self._ask(_command(["sh", "-c", 'cat > "$0"', out_path], file.read()))
        if said["rc"]:
            raise AnsibleConnectionFailure(said["err"])

    def fetch_file(self, in_path: str, out_path: str) -> None:
        said = self._ask(_command(["cat", in_path], b""))
        with open(out_path, "w", encoding="utf-8") as file:
            file.write(said["out"])

    def close(self) -> None:
        """Every request has a connection of its own."""
