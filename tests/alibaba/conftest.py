from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import trace_files

from imbres_gym.alibaba.digest import Digest, digest


@pytest.fixture
def digest_of(tmp_path: Path) -> Callable[[str], Digest]:
    """A download of a version, read whole."""

    def read(version: str) -> Digest:
        folder = trace_files.write_download(tmp_path / version, version)
        return digest(folder, tmp_path / f"{version}-kept", 1.0, lambda part, position, finished: None)

    return read
