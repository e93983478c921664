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
from collections.abc import Iterator
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
    archive = FOLDER / "agent.tar"
    sources = list(_files_of_checkout())
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name, path in sources:
        digest.update(name.encode() + b"\0" + path.read_bytes())
    mark = FOLDER / f"agent.{digest.hexdigest()[:16]}"
    if not (archive.exists() and mark.exists()):
        with step("build the image of the node agent"):
            layers = [python_layer(), build_layer(_add_programs), build_layer(_add_libraries)]
            layers.append(build_layer(lambda tar: _add_files(tar, sources)))
            save(archive, AGENT, layers, ["/usr/bin/python3.11", "-c", LAUNCHER])
            for old in FOLDER.glob("agent.????????????????"):
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
    for name in _with_dependencies(LIBRARIES):
        for file in importlib.metadata.distribution(name).files or ():
            if file.suffix == ".so":
                libraries.update(_libraries_of(Path(str(file.locate()))))
    for path in sorted(libraries):
        # Where the loader looks, whatever folder the machine has it in.
        add_bytes(tar, f"usr/lib/x86_64-linux-gnu/{path.name}", path.resolve().read_bytes())
    add_bytes(tar, "etc/protocols", Path("/etc/protocols").read_bytes())


def _libraries_of(program: Path) -> set[Path]:
    return {Path(found) for found in re.findall(r"=> (/\S+)", call(["ldd", program]))}


def _add_libraries(tar: tarfile.TarFile) -> None:
    """The packages as they are installed beside this program, in their exact versions."""
    if sys.version_info[:2] != (3, 11):
        raise BedError("the image has Python 3.11, and so must be the Python that runs the bed: use `make testbed`")
    for name in sorted(_with_dependencies(LIBRARIES)):
        for file in importlib.metadata.distribution(name).files or ():
            path = Path(str(file.locate()))
            if not file.parts[0].startswith("..") and path.suffix != ".pyc":
                add_bytes(tar, f"{SITE}/{file}", path.read_bytes())


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
