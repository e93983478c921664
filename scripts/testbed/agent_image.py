"""The image of imbres-gym itself for the bed: what the node agent needs, without a registry.

Not the image of the Dockerfile, which has all of the controller's libraries (600 MB): this one has Debian's Python, the
programs that write rules, the few Python packages that the node agent imports, and this checkout.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.testbed.images import FOLDER, add_bytes, build_layer, python_layer, save
from scripts.testbed.layout import ROOT
from scripts.testbed.steps import BedError, call, step

AGENT = "localhost/imbres-gym:1"
PROGRAMS = (
    "iptables-legacy-restore",
    "iptables-legacy-save",
    "iptables-nft-restore",
    "iptables-nft-save",
    "nft",
    "ss",
    "nsenter",
    "unshare",
)
LIBRARIES = ("lightkube", "prometheus-client", "pydantic", "pyyaml", "rich", "typer")
SOURCES = ("imbres_gym", "envs", "agents", "configs")
SITE = "usr/lib/python3/dist-packages"
LAUNCHER = f"import sys; sys.path[:0] = ['/{SITE}']; from imbres_gym.cli import main; main()"


def build() -> Path:
    """Make the image if something of it has changed; returns its archive."""
    return build_image("agent", AGENT, "the node agent", Path(__file__), agent_layers)


def agent_layers() -> list[bytes]:
    """Python, programs, libraries and this checkout."""
    sources = list(_files_of_checkout())
    layers = [python_layer(), build_layer(_add_programs), build_layer(lambda tar: add_libraries(tar, LIBRARIES))]
    return [*layers, build_layer(lambda tar: _add_files(tar, sources))]


def build_image(
    file: str, name: str, what: str, maker: Path, layers: Callable[[], list[bytes]], env: tuple[str, ...] = ()
) -> Path:
    """Make an image that starts `imbres-gym`, if this checkout or what makes it has changed; returns its archive."""
    archive = FOLDER / f"{file}.tar"
    digest = hashlib.sha256(Path(__file__).read_bytes() + maker.read_bytes())
    for entry, path in _files_of_checkout():
        digest.update(entry.encode() + b"\0" + path.read_bytes())
    mark = FOLDER / f"{file}.{digest.hexdigest()[:16]}"
    if not (archive.exists() and mark.exists()):
        with step(f"build the image of {what}"):
            save(archive, name, layers(), ["/usr/bin/python3.11", "-c", LAUNCHER], env)
            for old in FOLDER.glob(f"{file}.????????????????"):
                old.unlink()
            mark.touch()
    return archive


def _files_of_checkout() -> Iterator[tuple[str, Path]]:
    for top in SOURCES:
        for path in sorted((ROOT / top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix in {".py", ".yaml"}:
                yield f"{SITE}/{path.relative_to(ROOT)}", path


def _add_files(tar: tarfile.TarFile, files: list[tuple[str, Path]]) -> None:
    for name, path in files:
        add_bytes(tar, name, path.read_bytes())


def _add_programs(tar: tarfile.TarFile) -> None:
    """The machine's own programs under the names that Debian's alternatives give them, and all loaded libraries."""
    libraries: set[Path] = set()
    extensions = sorted(Path("/usr/lib/x86_64-linux-gnu/xtables").glob("*.so"))
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is None:
            raise BedError(f"{program}: not installed")
        real = Path(found).resolve()
        add_bytes(tar, f"usr/bin/{program}", real.read_bytes(), mode=0o755)
        libraries.update(_libraries_of(real))
    for path in extensions:
        add_bytes(tar, str(path).lstrip("/"), path.read_bytes())
    _add_loaded(tar, libraries)
    add_bytes(tar, "etc/protocols", Path("/etc/protocols").read_bytes())


def _add_loaded(tar: tarfile.TarFile, libraries: set[Path]) -> None:
    """Libraries of the machine where the loader looks, whatever folder the machine has them in."""
    for path in sorted(libraries):
        add_bytes(tar, f"usr/lib/x86_64-linux-gnu/{path.name}", path.resolve().read_bytes())


def _libraries_of(program: Path) -> set[Path]:
    return {Path(found) for found in re.findall(r"=> (/\S+)", call(["ldd", program]))}


def add_libraries(tar: tarfile.TarFile, names: tuple[str, ...], without: tuple[str, ...] = ()) -> None:
    """Packages as they are installed beside this program, in their exact versions, and what of the machine they load.

    Args:
        tar: takes them.
        names: of packages; all that they need comes, too.
        without: packages that are in the image already, with all that they need.
    """
    if sys.version_info[:2] != (3, 11):
        raise BedError("the image has Python 3.11, and so must be the Python that runs the bed: use `make testbed`")
    loaded: set[Path] = set()
    for name in sorted(_with_dependencies(names) - _with_dependencies(without)):
        for file in importlib.metadata.distribution(name).files or ():
            path = Path(str(file.locate()))
            if not file.parts[0].startswith("..") and path.suffix != ".pyc" and "tests" not in file.parts:
                add_bytes(tar, f"{SITE}/{file}", path.read_bytes())
                if ".so" in path.suffixes:
                    loaded.update(_libraries_of(path))
    # A package's own libraries are found from where they lie in it.
    _add_loaded(tar, {path for path in loaded if "site-packages" not in path.parts})


def _with_dependencies(names: tuple[str, ...]) -> set[str]:
    """Names of packages and of all that they require without extras.

    Raises:
        BedError: one is not installed.
    """
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if name in names:
                raise BedError(f"the package {name} is not installed here: run the bed by `make testbed`") from None
            continue  # required on other systems only
        found.add(name)
        waiting += [re.split(r"[ ;<>=!~\[(]", line, maxsplit=1)[0] for line in requires if "extra ==" not in line]
    return found
