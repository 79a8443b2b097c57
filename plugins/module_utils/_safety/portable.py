# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This module util is PRIVATE to the collection. It can change at any time.
"""The collection's own host code as one file that runs with the host's Python alone, for timers that outlive Ansible.

The same source that runs now is packed: from the module's archive under Ansible, from the folder in a checkout.
"""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from types import ModuleType

from ansible_collections.netops.fleet.plugins.module_utils._safety import files

_PREFIX = "ansible_collections.netops.fleet.plugins.module_utils."
_MAIN = "import sys\nfrom {name} import main\nsys.exit(main(sys.argv[1:]))\n"
#: Zip cannot hold an earlier time; a fixed one makes equal sources equal files.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(program: ModuleType) -> bytes:
    """A zip application whose program is ``main(arguments)`` of module ``program``, with all that it imports at module level.

    The module is given, not named: Ansible sends what it sees imported. Raises ImportError.
    """
    name = program.__name__
    wanted = [name]
    sources: dict[str, str] = {}
    while wanted:
        current = wanted.pop()
        if current in sources:
            continue
        module = importlib.import_module(current)
        sources[current] = _source(module)
        for value in vars(module).values():
            other = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(other, str) and other.startswith(_PREFIX):
                wanted.append(other)
    content = {"__main__.py": _MAIN.format(name=name)}
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


def _source(module: ModuleType) -> str:
    loader = getattr(module, "__loader__", None)
    source = loader.get_source(module.__name__) if loader is not None and hasattr(loader, "get_source") else None
    if not isinstance(source, str):
        raise ImportError(f"the source of {module.__name__} cannot be found")
    return source


def install(folder: str, file: str, program: ModuleType) -> str:
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
