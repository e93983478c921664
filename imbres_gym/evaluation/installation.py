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
    """Versions of Python and of the libraries, and a hash of the files of each of this project's packages."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    own = {f"code of {name}": _content_hash(name) for name in _OWN_PACKAGES}
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


def _content_hash(package: str) -> str:
    """Hash of the code and the data files of a package, wherever it lies.

    Without `configs`, which is in an installed package and beside one in a checkout: what an episode takes from there
    is in its fingerprint.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return "missing"
    digest = hashlib.sha256()
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        made_here = any(part == "__pycache__" or part.startswith(".") for part in name.parts)
        if path.is_file() and not made_here and name.parts[0] != "configs":
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
