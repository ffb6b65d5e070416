"""Code of somebody else, by ``MODULE:NAME`` or ``PATH.py:NAME``, looked for in the current directory too."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lucid.files import open_regular


def import_module(name: str) -> ModuleType:
    """The module of that name, or in the file of that path.

    Raises:
        Exception: whatever it raises while it is imported.
    """
    return _import_file(Path(name)) if name.endswith(".py") else _import_here(name)


def member(module: ModuleType, name: str) -> Any:
    """What a module has under a dotted name; None where it has nothing."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _import_file(path: Path) -> ModuleType:
    name = f"oracle_subject_{path.stem}"  # not the stem itself: a file may be called torch.py
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    open_regular(path).close()  # a FIFO would be waited for
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _import_here(name: str) -> ModuleType:
    """Import a module; an installed command does not look into the current directory by itself."""
    here = str(Path.cwd())
    if here in sys.path:  # taking it out again would take the one that was there, before others
        return importlib.import_module(name)
    sys.path.append(here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)
