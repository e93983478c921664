"""The manifests, parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from imbres_gym.config import config_root


@pytest.fixture(scope="session")
def folder() -> Path:
    return config_root() / "kubernetes"


@pytest.fixture(scope="session")
def kustomization(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def objects(folder: Path, kustomization: dict[str, Any]) -> list[dict[str, Any]]:
    """All objects of the listed files."""
    texts = [(folder / name).read_text(encoding="utf-8") for name in kustomization["resources"]]
    return [item for text in texts for item in yaml.safe_load_all(text)]
