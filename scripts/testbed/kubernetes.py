"""Builds Kubernetes 1.20.2 once, offline, from Debian bookworm's source package.

No registry that a bed may use has the server's binaries: Debian's newer packages hold `kubectl` only, and 1.20.2 is the
newest source whose vendor tree is complete. One program holds the five components and looks at its own name (4 minutes
on 2 idle cores, 90 MB); it is kept by version under the user's cache folder.

Two repairs before the build: the API server needs one generated file (its OpenAPI definitions), and reflect2 1.0.1 of
the vendor tree uses the runtime's map iterator in a way that Go 1.18 and later kill ("fatal error: ...") as soon as a
custom resource is decoded; Debian's package of reflect2 1.0.2 takes its place.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from scripts.testbed.layout import COMPONENTS, KUBERNETES, KUBERNETES_VERSION
from scripts.testbed.packages import BUILD, install
from scripts.testbed.steps import BedError, call, step

SOURCE = "kubernetes=1.20.5+really1.20.2-1.1+deb12u1"
REFLECT2 = Path("/usr/share/gocode/src/github.com/modern-go/reflect2")
MAIN = Path(__file__).with_name("kubernetes_main.go")
PRIORITY = ["nice", "-n", "10"]
SOURCES_LIST = """\
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security \
bookworm-security main
"""


def build(keep: bool = False) -> None:
    """Build the binary if it is not in the cache.

    Args:
        keep: leave the sources and Go's cache (2.5 GB), for work on this file.
    """
    if all((KUBERNETES / name).exists() for name in COMPONENTS):
        return
    install(BUILD)
    folder = KUBERNETES.with_name(KUBERNETES.name + ".build")
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / "gopath/src/k8s.io/kubernetes"
    if not tree.exists():
        with step(f"download and unpack the sources of Kubernetes {KUBERNETES_VERSION} (34 MB)"):
            _download(folder, tree)
    environment = _environment(folder)
    if not (tree / "pkg/generated/openapi/zz_generated.openapi.go").exists():
        with step("generate the API server's OpenAPI definitions"):
            _generate(folder, tree, environment)
    with step("compile Kubernetes (4 min on 2 idle cores)"):
        _compile(tree, environment, folder / "kubernetes")
    KUBERNETES.mkdir(exist_ok=True)
    shutil.move(folder / "kubernetes", KUBERNETES / "kubernetes")
    for name in COMPONENTS:
        (KUBERNETES / name).symlink_to("kubernetes")
    if not keep:
        call(["chmod", "--recursive", "u+w", folder])
        shutil.rmtree(folder)


def _download(folder: Path, tree: Path) -> None:
    """Fetch the source package through apt with lists of its own: the machine's list of sources stays as it is."""
    sources, lists = folder / "sources.list", folder / "lists"
    lists.mkdir(exist_ok=True)
    sources.write_text(SOURCES_LIST)
    apt = ["apt-get", "--quiet"]
    for option in (f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=-", f"Dir::State::Lists={lists}"):
        apt += ["--option", option]
    call([*apt, "update"])
    call([*apt, "source", SOURCE], cwd=folder)
    unpacked = [path for path in folder.glob("kubernetes-*") if path.is_dir()]
    if len(unpacked) != 1:
        raise BedError(f"{folder}: the source package did not unpack to one folder")
    vendored = unpacked[0] / "vendor/github.com/modern-go/reflect2"
    shutil.rmtree(vendored)
    shutil.copytree(REFLECT2, vendored)
    main = unpacked[0] / "cmd/testbed/main.go"
    main.parent.mkdir()
    shutil.copy(MAIN, main)
    tree.parent.mkdir(parents=True, exist_ok=True)
    unpacked[0].rename(tree)


def _environment(folder: Path) -> dict[str, str]:
    go = {"GOFLAGS": "", "GOPROXY": "off", "GOSUMDB": "off", "GO111MODULE": "off", "CGO_ENABLED": "0"}
    return {**os.environ, **go, "GOCACHE": str(folder / "gocache"), "GOPATH": str(folder / "gopath")}


def _generate(folder: Path, tree: Path, environment: dict[str, str]) -> None:
    """What Kubernetes' own `make generated_files` does for the one file that the source package lacks."""
    generator = folder / "openapi-gen"
    package = "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"
    call([*PRIORITY, "go", "build", "-o", generator, package], cwd=tree, env=environment)
    found = call(
        ["grep", "-rl", "--include=*.go", "^// +k8s:openapi-gen=", "pkg", "vendor/k8s.io", "staging/src/k8s.io"],
        cwd=tree,
    )
    folders = set()
    for name in found.split():
        name = name.replace("staging/src/", "vendor/", 1)
        if not any(part in name for part in ("/code-generator/", "/sample-apiserver/", "testdata")):
            folders.add(f"k8s.io/kubernetes/{Path(name).parent}")
    command: list[str | Path] = [*PRIORITY, generator, "-i", ",".join(sorted(folders))]
    command += ["-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"]
    command += ["-h", "hack/boilerplate/boilerplate.generatego.txt", "-r", str(folder / "openapi-violations")]
    call(command, cwd=tree, env=environment)


def _compile(tree: Path, environment: dict[str, str], binary: Path) -> None:
    flags = ["-s", "-w"]
    for package in ("component-base/version", "client-go/pkg/version"):
        prefix = f"-X k8s.io/kubernetes/vendor/k8s.io/{package}"
        flags += [f"{prefix}.gitVersion=v{KUBERNETES_VERSION}", f"{prefix}.gitMajor=1", f"{prefix}.gitMinor=20"]
        flags.append(f"{prefix}.gitTreeState=clean")
    command = [*PRIORITY, "go", "build", "-tags", "providerless dockerless", "-trimpath", "-ldflags", " ".join(flags)]
    call([*command, "-o", binary, "./cmd/testbed"], cwd=tree, env=environment)
