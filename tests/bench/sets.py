# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of a million addresses: the module's code (read the file, compare, journal, build aside, put in place, read every entry
again) against `ipset restore` of the same addresses, once told the right hashsize and once not."""

from __future__ import annotations

import random
import socket
import struct
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import hosts, measure
from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.kernel.conftest import Namespace

COUNT = 1_000_000

_MODULE = """
import json, sys
from ansible_collections.netops.fleet.plugins.module_utils._firewall import set_ipset, sets
options = sets.Options("many", type="hash:ip", persist=False, folder=sys.argv[1])
options.lines, options.where = sets.of_file(sys.argv[2])
print(sets.run(options, set_ipset.Ipset(), False)["counts"])
"""


def run(options: Options) -> list[Figure]:
    with TemporaryDirectory() as name, hosts.host() as space:
        folder = Path(name)
        files = _inputs(folder)
        kinds = {kind: partial(_load, space, kind, folder, files[kind]) for kind in ("module", "best", "default")}
        once = measure.alternate(kinds, options.rounds, options.say)
    found = []
    for unit, word in (("wall", "wall"), ("cpu", "CPU")):
        value, best, default = (getattr(once[kind], unit) for kind in ("module", "best", "default"))
        found += [
            Figure(
                f"set of {COUNT:,} addresses, {word}", value, reference=best, reference_name="ipset restore, sized", at_most=1.2
            ),
            Figure(f"set of {COUNT:,} addresses, {word}", value, reference=default, reference_name="ipset restore", at_most=0.8),
        ]
    return found


def _inputs(folder: Path) -> dict[str, Path]:
    """The same random addresses for all, in no order."""
    numbers = random.Random(6).sample(range(1 << 24, 0xDFFFFFFF), COUNT)
    addresses = [socket.inet_ntoa(struct.pack(">I", number)) for number in numbers]
    files = {name: folder / name for name in ("module", "best", "default")}
    files["module"].write_text("\n".join(addresses) + "\n")
    room = COUNT + COUNT // 4
    for name, size in (("best", f"hashsize {1 << 20} maxelem {room}"), ("default", f"maxelem {room}")):
        head = f"create many hash:ip {size}\n"
        files[name].write_text(head + "".join(f"add many {address}\n" for address in addresses))
    return files


def _load(space: Namespace, kind: str, folder: Path, file: Path) -> measure.Measured:
    words = ["ipset", "restore", "-file", str(file)]
    if kind == "module":
        words = [sys.executable, "-c", _MODULE, str(folder / "journal"), str(file)]
    done = measure.run(space.argv(["env", f"PYTHONPATH={space.environment()['PYTHONPATH']}", *words]))
    shown = space.run(["ipset", "list", "-t", "many"]).stdout
    if f"Number of entries: {COUNT}" not in shown:
        raise RuntimeError(f"{kind}: {done.output} {shown}")
    space.run(["ipset", "destroy", "many"])
    (folder / "journal" / "journal.jsonl").unlink(missing_ok=True)
    return done
