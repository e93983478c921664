"""What is installed here, so that two machines can tell whether they would compute the same."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_OWN_PACKAGES = ("imbres_gym", "envs", "agents")

_LIBRARIES = ("numpy", "numba", "scipy", "scikit-learn", "gymnasium")
"""Those whose version can change a result."""


@lru_cache(maxsize=1)
def describe_installation() -> dict[str, str]:
    """Versions of Python and of the libraries, and a hash of the source code of each of this project's packages."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    own = {f"code of {name}": _source_hash(name) for name in _OWN_PACKAGES}
    return {"Python": platform.python_version(), **libraries, **own}


def differences(expected: dict[str, str], found: dict[str, str]) -> str:
    """What is not the same, in words; empty if everything is.

    Args:
        expected: of `describe_installation`, here.
        found: of `describe_installation`, elsewhere.
    """
    return ", ".join(
        f"{name} is {found.get(name, 'missing')}, not {value}"
        for name, value in expected.items()
        if found.get(name) != value
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _source_hash(package: str) -> str:
    """Hash of all Python files of a package, wherever it lies."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return "missing"
    digest = hashlib.sha256()
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
