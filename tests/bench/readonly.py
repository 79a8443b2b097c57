# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one collection changes on a host: nothing. Counted by other tools, before and after.

Two readings are taken before: what differs between them moves by itself and proves nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.bench import ansible_runs, hosts, measure
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.kernel.conftest import Namespace

_KINDS = ("modules", "rules", "qdiscs", "sysctls")


def run(options: Options) -> list[Figure]:
    folder = ansible_runs.scratch("readonly")
    payload = ansible_runs.payload(folder)
    with hosts.host() as space:
        hosts.load_nft(space, hosts.ORDINARY)
        space.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
        earlier, before = _state(space), _state(space)
        with open(payload, "rb") as source:
            done = subprocess.run(space.argv([hosts.python(), "-"]), stdin=source, capture_output=True, text=True, check=False)
        if '"evidence"' not in done.stdout:
            raise measure.MeasureError(f"the module failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        after = _state(space)
    shutil.rmtree(folder)
    figures = []
    for kind in _KINDS:
        moving = _names(earlier[kind] ^ before[kind])
        changed = sorted(_names(before[kind] ^ after[kind]) - moving)
        options.say(
            f"{kind}: {len(before[kind])} read, {len(changed)} changed" + (f": {', '.join(changed[:5])}" if changed else "")
        )
        figures.append(Figure(f"{kind} changed by one collection", len(changed), "", at_most=0, detail="; ".join(changed[:10])))
    return figures


def _state(space: Namespace) -> dict[str, set[str]]:
    """Lines of what may not change, by kind."""
    # Modules first: the other tools may load some, and that would hide a module loaded by the collection.
    modules = Path("/proc/modules")
    names = {line.split(" ", 1)[0] for line in modules.read_text().splitlines()} if modules.exists() else set()
    rules = _lines(space, ["nft", "-s", "-a", "list", "ruleset"]) | _lines(space, ["ipset", "list", "-name"], check=False)
    return {
        "modules": names,
        "rules": rules,
        "qdiscs": _lines(space, ["tc", "qdisc", "show"]),
        "sysctls": {line for line in _lines(space, ["sysctl", "-a"], check=False) if _writable(line.split(" = ")[0])},
    }


def _names(lines: set[str]) -> set[str]:
    """Of a sysctl its name, of anything else all that was said."""
    return {line.split(" = ")[0] for line in lines}


def _lines(space: Namespace, argv: list[str], check: bool = True) -> set[str]:
    """Lines with their number, so that two alike are two."""
    said = space.run(argv, check=check).stdout.splitlines()
    return set(said) if argv[0] == "sysctl" else {f"{number} {line}" for number, line in enumerate(said)}


def _writable(name: str) -> bool:
    """Values nobody can set are counters."""
    try:
        return bool(os.stat("/proc/sys/" + name.replace(".", "/")).st_mode & 0o222)
    except OSError:
        return True  # of this namespace only, such as one of a link
