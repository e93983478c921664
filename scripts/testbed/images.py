"""Container images without a registry: Debian packages unpacked, packed as the archive that `docker save` writes.

Two images: the pause container of every pod (a static busybox that sleeps), and the synthetic microservice (Debian's
Python with the one file `service/microservice.py`). Packages and their layer are kept in the cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from scripts.testbed.layout import CACHE
from scripts.testbed.steps import BedError, call, step

PAUSE = "localhost/imbres-pause:1"
SERVICE = "localhost/imbres-service:1"
FOLDER = CACHE / "images"
SERVICE_FILE = Path(__file__).with_name("service") / "microservice.py"
PYTHON_PACKAGES = (
    "libc6",
    "libbz2-1.0",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "liblzma5",
    "libssl3",
    "libuuid1",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "python3.11-minimal",
    "zlib1g",
)
"""What the interpreter and asyncio load; nothing else of a Debian system is in the image."""
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/lib/python3.11/test")
ARCHIVE_TIME = "2020-01-01T00:00:00Z"


def build() -> list[Path]:
    """Make what is not in the cache; returns the archives."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pause, service = FOLDER / "pause.tar", FOLDER / "service.tar"
    if not pause.exists():
        with step("build the pause image"):
            save(
                pause,
                PAUSE,
                [build_layer(lambda tar: tar.add("/bin/busybox", "busybox"))],
                ["/busybox", "sleep", "2147483647"],
            )
    source = SERVICE_FILE.read_bytes()
    mark = FOLDER / f"service.{hashlib.sha256(source).hexdigest()[:16]}"
    if not (service.exists() and mark.exists()):
        with step("build the image of the synthetic microservice"):
            top = build_layer(lambda tar: add_bytes(tar, "microservice.py", source))
            command = ["/usr/bin/python3.11", "-u", "/microservice.py"]
            save(service, SERVICE, [python_layer(), top], command)
            for old in FOLDER.glob("service.*[0-9a-f]"):
                if old != service:
                    old.unlink()
            mark.touch()
    return [pause, service]


def python_layer() -> bytes:
    """Debian's Python and what it loads; kept in the cache."""
    kept = FOLDER / f"python.{hashlib.sha256(' '.join(PYTHON_PACKAGES).encode()).hexdigest()[:16]}.layer"
    if not kept.exists():
        packages, root = FOLDER / "packages", FOLDER / "root"
        for folder in (packages, root):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        call(["apt-get", "--quiet", "download", *PYTHON_PACKAGES], cwd=packages)
        for package in sorted(packages.glob("*.deb")):
            call(["dpkg-deb", "--extract", package, root])
        if not (root / "usr/bin/python3.11").exists():
            raise BedError(f"{root}: the packages hold no /usr/bin/python3.11")
        for name in UNUSED:
            shutil.rmtree(root / name, ignore_errors=True)
        kept.write_bytes(build_layer(lambda tar: _add_folder(tar, root)))
        shutil.rmtree(packages)
        shutil.rmtree(root)
    return kept.read_bytes()


def build_layer(fill: Callable[[tarfile.TarFile], object]) -> bytes:
    """A layer of an image, uncompressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        fill(tar)
    return packed.getvalue()


def _add_folder(tar: tarfile.TarFile, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        tar.add(path, path.name)


def save(file: Path, name: str, layers: list[bytes], command: list[str], env: tuple[str, ...] = ()) -> None:
    """Write an archive as `docker save` does: layers, a configuration, and a manifest that names them."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": ARCHIVE_TIME,
            "config": {"Entrypoint": command, "Env": ["PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1", *env]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_names = [f"{digest}.tar" for digest in digests]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": layer_names}]).encode()
    with tarfile.open(file, "w") as tar:
        for entry, content in zip(
            [config_name, *layer_names, "manifest.json"], [config, *layers, manifest], strict=True
        ):
            add_bytes(tar, entry, content)


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Add a file to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
