# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo``: a fleet of four hosts, two of them broken, diagnosed as an operator would. Only the report stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.lab import faults
from tests.lab.engine import LabError, say
from tests.lab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
BROKEN = {"gpu01": "nft_drop", "gpu02": "bpf_syn_drop"}


def main() -> int:
    """Exit status 0 when the diagnosis ran and its report is there."""
    output = ROOT / "reports"
    before = {path.resolve() for path in output.glob("*/report.json")}
    playbook = ROOT / ".venv" / "bin" / "ansible-playbook"
    with Lab(f"demo-{os.getpid()}", hosts=4) as lab:
        for name, fault in BROKEN.items():
            say(f"demo: {name}: {faults.FAULTS[fault].summary}")
            faults.apply(lab.hosts[name], fault)
        command = [str(playbook), "-i", str(lab.inventory), "playbooks/diagnose.yml"]
        command += ["-e", f"diagnose_target=tcp/{faults.PORT}", "-e", f"diagnose_output={output}"]
        say(f"demo: {' '.join(command)}")
        path = f"{playbook.parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PATH": path}
        status = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, check=False).returncode
    new = sorted({path.resolve() for path in output.glob("*/report.json")} - before)
    if status != 0 or not new:
        say(f"demo: the diagnosis ended with status {status} and {len(new)} reports")
        return status or 1
    print(f"The report: {new[-1].parent}/report.html (the same as data: report.json)")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        say(f"demo: {error}")
        sys.exit(1)
