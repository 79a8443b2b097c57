# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that reaches no host and answers every module at once with a recorded answer: what is left is the controller."""

from __future__ import annotations

import os
import re
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: recorded
short_description: Answers every module with a recorded answer
author: netops.fleet contributors (@netops-fleet)
description:
  - For benches. The host's number, taken from its name, picks the answer out of the folder in E(NETOPS_BENCH_ANSWERS).
  - With E(NETOPS_BENCH_PAYLOAD) what would have been sent to the host is written to that file.
options: {}
extends_documentation_fragment:
  - connection_pipelining
"""


class Connection(ConnectionBase):
    transport = "recorded"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if not in_data:
            raise AnsibleConnectionFailure("a recorded connection answers modules only, and needs pipelining")
        target = os.environ.get("NETOPS_BENCH_PAYLOAD")
        if target:
            with open(target, "wb") as out:
                out.write(in_data)
        folder = os.environ["NETOPS_BENCH_ANSWERS"]
        answers = sorted(os.listdir(folder))
        number = int("0" + re.sub(r"\D", "", self._play_context.remote_addr or ""))
        with open(os.path.join(folder, answers[number % len(answers)]), "rb") as file:
            answer = file.read()
        # The host's clock of now, at both ends of the module's run: a recorded one would be a finding on every host.
        now = f"{time.time():.3f}".encode()
        return 0, answer[:200].replace(b'"@now@"', now) + answer[200:], b""

    def put_file(self, in_path, out_path):
        raise AnsibleConnectionFailure("a recorded connection takes no files")

    def fetch_file(self, in_path, out_path):
        raise AnsibleConnectionFailure("a recorded connection gives no files")

    def close(self):
        self._connected = False
