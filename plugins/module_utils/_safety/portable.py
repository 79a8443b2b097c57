# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The collection's own host code as one file that runs with the host's Python alone, for timers that outlive Ansible.

The same source that runs now is packed: from the module's archive under Ansible, from the folder in a checkout. It is read, not
imported: each module that is compiled for nothing costs every run on every host.
"""

from __future__ import annotations

import io
import os
import pkgutil
import re
import zipfile
from collections.abc import Iterator

from ansible_collections.netops.fleet.plugins.module_utils._safety import files

#: At any depth: what a function imports when it needs it must be in the package too.
_IMPORT = re.compile(
    r"^[ \t]*from (ansible_collections\.netops\.fleet\.plugins\.module_utils[\w.]*) import (\([^)]*\)|[^(\n]*)", re.M
)
_MAIN = "import sys\nfrom {name} import main\nsys.exit(main(sys.argv[1:]))\n"
#: Zip cannot hold an earlier time; a fixed one makes equal sources equal files.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(program: str) -> bytes:
    """A zip application whose program is ``main(arguments)`` of the module ``program``, with all that it imports, also late.

    Ansible sends only what it sees imported: whoever names a program has an import of it too. Raises ImportError.
    """
    wanted = [program]
    sources: dict[str, str] = {}
    while wanted:
        current = wanted.pop()
        if current not in sources:
            source = _source(current)
            if source is None:
                raise ImportError(f"the source of {current} cannot be found")
            sources[current] = source
            wanted.extend(_imports(source))
    content = {"__main__.py": _MAIN.format(name=program)}
    for full, source in sources.items():
        parts = full.split(".")
        for depth in range(1, len(parts)):
            content.setdefault("/".join([*parts[:depth], "__init__.py"]), "")
        content["/".join(parts) + ".py"] = source
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(content):
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), content[path].encode("utf-8"), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _imports(source: str) -> Iterator[str]:
    """Full names of the collection's modules that a source imports."""
    for base, names in _IMPORT.findall(source):
        if _source(base) is not None:
            yield base
            continue
        for name in re.sub(r"#.*", "", names).strip("()").split(","):
            if name.strip():
                yield f"{base}.{name.split()[0]}"


def _source(name: str) -> str | None:
    """None when it is no module, but a package. Not asked of importlib: to find a module in an archive it compiles it."""
    package, _dot, module = name.rpartition(".")
    try:
        data = pkgutil.get_data(package, f"{module}.py")
    except OSError:
        return None
    return None if data is None else data.decode("utf-8")


def install(folder: str, file: str, program: str) -> str:
    """Put the application of ``program`` into ``folder`` unless the same is there; returns its path. Raises OSError."""
    path = os.path.join(folder, file)
    data = build(program)
    try:
        with open(path, "rb") as existing:
            if existing.read() == data:
                return path
    except FileNotFoundError:
        pass
    files.private_folder(folder)
    files.write(path, data, 0o700)
    return path
