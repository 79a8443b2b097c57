# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m tests.faults [PATTERN ...]: run faults and healthy hosts whose name matches, a line each. Root.

Faults that need a virtual machine (``guest``) are run only when they are named in full.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path


def main(patterns: list[str]) -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".collections"))
    from tests.faults import runner

    bad = 0
    works: list[tuple[Callable[..., runner.Outcome], runner.Entry]] = [(runner.run, one) for one in runner.load(runner.FAULTS)]
    works += [(runner.run_healthy, one) for one in runner.load(runner.HEALTHY)]
    for work, entry in works:
        if patterns and not any(fnmatchcase(entry.name, pattern) for pattern in patterns):
            continue
        if runner.in_guest(entry) and entry.name not in patterns:
            continue
        try:
            outcome = work(entry)
        except (AssertionError, runner.CorpusError) as error:
            print(f"{entry.name}: BROKEN: {' '.join(str(error).split())[-500:]}", flush=True)
            bad += 1
            continue
        except Exception:
            traceback.print_exc()
            bad += 1
            continue
        well = outcome.first and not outcome.stray and not outcome.after
        bad += not well
        said = "ok" if well else f"first {outcome.first}, stray {[one['id'] for one in outcome.stray]}"
        if outcome.after:
            said += f", after {[one['id'] + ' ' + one['subject'] for one in outcome.after]}"
        print(f"{entry.name}: {said} ({outcome.seconds:.2f} s) {'' if well else outcome.told()}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
