"""An address where no Ray cluster answers is said soon, and clearly; no Ray is started here."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from imbres_gym.config import ConfigError
from imbres_gym.evaluation.executor import ProcessExecutor, make_executor
from imbres_gym.evaluation.installation import describe_installation, differences
from imbres_gym.evaluation.ray_executor import RayExecutor


@pytest.mark.parametrize("address", ["", "localhost", "ray://10.0.0.1:10001", "10.0.0.1:", "10.0.0.1:99999", ":6379"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"expected local, auto or HOST:PORT"):
        make_executor(None, address)


def test_an_address_where_nothing_listens() -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused, and nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"--ray-address {address}: .*[Rr]efused.*\n +ray start --head"):
            make_executor(None, address)


def test_an_address_where_something_else_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises(ConfigError, match="what answers is not Ray"):
            make_executor(None, f"127.0.0.1:{mute.getsockname()[1]}")
        assert time.monotonic() - began < 10.0


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"--ray-address nowhere\.invalid:6379: cannot use a Ray cluster there"):
        make_executor(None, "nowhere.invalid:6379")


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imbres_gym.evaluation.ray_executor.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"Ray is not installed; pip install 'imbres-gym\[ray\]'"):
        make_executor(2, "local")


def test_without_an_address_there_is_no_ray() -> None:
    assert isinstance(make_executor(1, None), ProcessExecutor)
    assert isinstance(make_executor(1, "local"), RayExecutor)


def test_an_installation_differs_where_it_says() -> None:
    here = describe_installation()
    assert {"Python", "numpy", "numba", "code of imbres_gym", "code of envs", "code of agents"} <= here.keys()
    assert "missing" not in here.values()
    assert differences(here, dict(here)) == ""
    other = {**here, "numpy": "1.0"}
    del other["numba"]
    assert differences(here, other) == f"numpy is 1.0, not {here['numpy']}, numba is missing, not {here['numba']}"


@pytest.mark.parametrize(
    ("file", "matters"),
    [("code.py", True), ("inner/data.npz", True), ("configs/agent.yaml", False), ("__pycache__/code.pyc", False)],
)
def test_an_installation_is_the_code_and_the_data_of_its_packages(
    file: str, matters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "invented" / file
    changed.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "invented" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("imbres_gym.evaluation.installation._OWN_PACKAGES", ("invented",))
    before = describe_installation.__wrapped__()  # without its memory of earlier calls
    changed.write_bytes(b"other")
    found = differences(before, describe_installation.__wrapped__())
    assert found.startswith("code of invented is ") if matters else found == ""
