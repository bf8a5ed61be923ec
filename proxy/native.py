"""The hot path as machine code, where it was built: `make compile` has mypyc translate the modules to C.

What was built is used only as long as it says the same as the sources that stand here: a module that was changed
since, or another Python, and all of it is left aside, and the sources run as they are. So nobody ever runs what he
does not read. Both ways do the same; the tests run both.
"""

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
BUILT = Path(sys.prefix) / "native"
"""Where `tools/compile.py` puts what it built: it goes with the environment that it was built for."""
MANIFEST = "manifest.json"
_RECIPE = b"3"
"""Another one whenever `tools/compile.py` makes something else of the same sources."""
WANTED = "TAILRACE_NATIVE"
"""`0` in the environment: the sources run as they are. Tests run them so unless it is `1`."""


def digest(names: Sequence[str], root: Path = ROOT) -> str:
    """What the sources of these modules say, how they are built, and for which Python."""
    found = hashlib.sha256(_RECIPE + importlib.machinery.EXTENSION_SUFFIXES[0].encode())
    for name in names:
        found.update(b"\0" + root.joinpath(*name.split(".")).with_suffix(".py").read_bytes())
    return found.hexdigest()


class Finder:
    """Finds what was built: each module, and the library that holds the code of them all."""

    def __init__(self, libraries: Mapping[str, str]) -> None:
        self._libraries = libraries

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        del path, target
        file = self._libraries.get(name)
        return None if file is None else importlib.util.spec_from_file_location(name, file)


def in_use() -> bool:
    """Whether this process runs built code."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)


def handed_on() -> dict[str, str]:
    """The environment of a child that values are exchanged with: both ways pickle them differently."""
    return {WANTED: "1" if in_use() else "0"}


def use(built: Path = BUILT, root: Path = ROOT) -> bool:
    """Import the built modules from here on; False where there are none, or they are of other sources."""
    if os.environ.get(WANTED) == "0":
        return False
    try:
        manifest = json.loads((built / MANIFEST).read_bytes())
        modules, libraries = manifest["modules"], manifest["libraries"]
        if manifest["digest"] != digest(modules, root):
            return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    sys.meta_path.insert(0, Finder({name: str(built / file) for name, file in libraries.items()}))
    return True
