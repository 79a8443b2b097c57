# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection into the network and mount namespaces of a process of the test, so that a play over several hosts needs no lab."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: namespaced
short_description: Runs commands in the namespaces of a process
description: Files go there by way of C(cat), so they lie where the mounts of that process put them.
version_added: 0.1.0
author: netops.fleet contributors (@netops-fleet)
options:
  pid:
    description: The process.
    type: int
    vars:
      - name: namespaced_pid
"""


class Connection(ConnectionBase):
    """Nothing is kept open."""

    transport = "namespaced"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def reset(self) -> None:
        """Nothing to do."""

    def _run(self, argv: list[str], data: bytes | None) -> tuple[int, bytes, bytes]:
        words = ["nsenter", "-t", str(self.get_option("pid")), "-m", "-n", "--", *argv]
        done = subprocess.run(words, input=data or b"", capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", cmd], in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        status, _out, err = self._run(["sh", "-ec", 'cat >"$0"', out_path], Path(in_path).read_bytes())
        if status:
            raise OSError(err.decode())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        status, out, err = self._run(["cat", in_path], None)
        if status:
            raise OSError(err.decode())
        Path(out_path).write_bytes(out)

    def close(self) -> None:
        """Nothing to close."""
