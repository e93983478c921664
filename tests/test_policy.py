"""Import paths in scenarios and agents: what is wrong with one is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from imbres_gym.config import ConfigError
from imbres_gym.policy import load_object


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("class Other: pass", ConfigError, r"load: 'theirs_\d+' has no 'Mine'"),
        ("import a_module_that_nobody_has", ConfigError, "No module named 'a_module_that_nobody_has'; is the package"),
        ("from os import nothing_like_it", ConfigError, "cannot import name 'nothing_like_it'"),
        ("import os\nos.nothing_like_it", AttributeError, "nothing_like_it"),  # a fault of the module is shown as it is
    ],
)
def test_what_an_import_path_does_not_lead_to_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    error: type[Exception],
    message: str,
) -> None:
    name = f"theirs_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=message):
        load_object(f"{name}:Mine", "load")
