# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This plugin util is PRIVATE to the collection. It can change at any time.
"""report.html: one file, no outside resources, written host by host from the macros of report.html.j2.

All text of hosts passes autoescape and ``clean``. The page's own style and script are allowed by their hashes and nothing else
is: what escaping would miss, the browser refuses to run.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import jinja2

from ansible_collections.netops.fleet.plugins.plugin_utils._fleet import checks
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.schema import SEVERITIES
from ansible_collections.netops.fleet.plugins.plugin_utils._fleet.text import clean

TEMPLATE = "report.html.j2"
_FOLDER = os.path.dirname(os.path.abspath(__file__))
#: Findings of one host on the page; report.json has them all.
MAX_FINDINGS = 60


def write(out: IO[str], head: dict[str, Any], columns: list[str], records: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Write the page. records: called twice, gives the hosts in the order of the page: once for the matrix, once for details."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_compiled(),
    )
    environment.filters.update(clean=clean, clock=_time, title=checks.title, offset=_offset)
    module: Any = environment.get_template(TEMPLATE).module
    style, script = str(module.style()), str(module.script())
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    out.write(str(module.head(head, policy, style)))
    out.write(str(module.matrix_head(head, columns)))
    for index, record in enumerate(records()):
        out.write(
            str(
                module.matrix_row(
                    record, index, columns, worst(record), bool(head["run"]["symptom"] or head["run"]["target_text"])
                )
            )
        )
    out.write(str(module.matrix_foot(head)))
    for index, record in enumerate(records()):
        shown = record["findings"][:MAX_FINDINGS]
        out.write(str(module.host(record, index, shown, len(record["findings"]) - len(shown), worst(record))))
    out.write(str(module.foot(head, script)))


def _compiled() -> jinja2.BytecodeCache | None:
    """Where the compiled template is kept: making it anew costs more than the reports of a small fleet.

    None when there is no place of one's own: what is loaded from there is code.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(base, "netops.fleet")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
    except OSError:
        return None
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return jinja2.FileSystemBytecodeCache(folder) if own else None


def worst(record: dict[str, Any]) -> str:
    """critical, warning, info, ok, or silent for a host without evidence."""
    if record["status"] != "ok":
        return "silent"
    found = [finding["severity"] for finding in record["findings"]]
    return min(found, key=SEVERITIES.index) if found else "ok"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "a time that is none"


def _offset(seconds: float) -> str:
    return f"{seconds:+.3f} s"
