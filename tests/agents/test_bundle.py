from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import make_info

from agents.bundle import FORMAT, Bundle, load_bundle, save_bundle
from agents.network import Network, Normalisation
from imbres_gym.config import ConfigError


def small_network() -> Network:
    rng = np.random.default_rng(1)
    return Network(
        weights=(rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(2, 4)).astype(np.float32)),
        biases=(rng.normal(size=4).astype(np.float32), rng.normal(size=2).astype(np.float32)),
        activation="relu",
        output="tanh",
        normalisation=Normalisation(rng.normal(size=3), rng.uniform(0.5, 2.0, size=3), clip=5.0),
    )


def small_bundle(**changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "kind": "load",
        "application": "chain",
        "microservices": ("service-0", "service-1"),
        "hosts": 2,
        "classes": ("read",),
        "recipe": {"algorithm": "PPO", "layers": [4]},
        "seeds": {"training": 3000},
        "steps": 128,
        "metrics": {"reward": -1.5},
        "networks": {"actor": small_network()},
        "arrays": {"svm-weights": np.arange(6, dtype=np.float64).reshape(2, 3), "classes": np.array([0, 1])},
    }
    return Bundle(**{**values, **changes})


def saved(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "a.zip"
    save_bundle(small_bundle(**changes), path)
    return path


def with_header(path: Path, **changes: Any) -> None:
    """Write the archive again with another header."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["bundle.json"] = json.dumps({**json.loads(members["bundle.json"]), **changes}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    bundle, loaded = small_bundle(), load_bundle(saved(tmp_path))
    names = (
        "kind",
        "application",
        "microservices",
        "hosts",
        "classes",
        "recipe",
        "seeds",
        "steps",
        "metrics",
        "version",
    )
    assert [getattr(loaded, name) for name in names] == [getattr(bundle, name) for name in names]
    for name, values in bundle.arrays.items():
        assert loaded.arrays[name].dtype == values.dtype
        assert np.array_equal(loaded.arrays[name], values)
    inputs = np.random.default_rng(2).normal(size=(5, 3))
    assert np.array_equal(loaded.networks["actor"].forward(inputs), bundle.networks["actor"].forward(inputs))


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    save_bundle(small_bundle(), tmp_path / "b.zip")
    assert saved(tmp_path).read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_numpy_alone_reads_the_arrays(tmp_path: Path) -> None:
    with np.load(saved(tmp_path)) as archive:
        assert archive["networks/actor/weight-0"].shape == (4, 3)


def test_forward_by_hand() -> None:
    # (3 - 1) / sqrt(4) = 1 -> layers: 2 * 1 - 1 = 1 -> relu 1; -1 * 1 + 0 = -1 -> relu 0; 3 * 1 + 4 * 0 + 0.5 = 3.5.
    network = Network(
        weights=(np.array([[2.0], [-1.0]], np.float32), np.array([[3.0, 4.0]], np.float32)),
        biases=(np.array([-1.0, 0.0], np.float32), np.array([0.5], np.float32)),
        activation="relu",
        normalisation=Normalisation(np.array([1.0]), np.array([4.0])),
    )
    assert network.forward(np.array([3.0])) == pytest.approx([3.5])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("activation", "output"), [("tanh", "none"), ("relu", "tanh")])
def test_forward_equals_torch(activation: str, output: str) -> None:
    import torch

    torch.manual_seed(3)
    between: Any = torch.nn.Tanh if activation == "tanh" else torch.nn.ReLU
    layers: Any = [torch.nn.Linear(7, 16), between(), torch.nn.Linear(16, 16), between(), torch.nn.Linear(16, 4)]
    linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    module = torch.nn.Sequential(*layers, *([torch.nn.Tanh()] if output == "tanh" else []))
    network = Network(
        weights=tuple(layer.weight.detach().numpy() for layer in linear),
        biases=tuple(layer.bias.detach().numpy() for layer in linear),
        activation=activation,  # type: ignore[arg-type]
        output=output,  # type: ignore[arg-type]
    )
    inputs = np.random.default_rng(4).normal(size=(20, 7)).astype(np.float32)
    expected = module(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(network.forward(inputs), expected, rtol=1e-5, atol=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="layer 1"):
        Network((np.zeros((4, 3), np.float32), np.zeros((2, 5), np.float32)), (np.zeros(4), np.zeros(2)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes 3 inputs, not 4"):
        small_network().forward(np.zeros(4))


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.zip: there is no such file"):
        load_bundle(tmp_path / "nowhere.zip")
    with pytest.raises(ConfigError, match="no bundle 'nothing-like-it'"):
        load_bundle("nothing-like-it")


@pytest.mark.parametrize("keep", [0, 10, 400, -1])
def test_a_truncated_bundle_is_refused(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=r"a\.zip: not a bundle, or damaged"):
        load_bundle(path)


def test_no_single_damaged_byte_goes_unnoticed_or_raises_anything_else(tmp_path: Path) -> None:
    path = saved(tmp_path)
    good = path.read_bytes()
    inputs = np.ones(3)
    expected = load_bundle(path).networks["actor"].forward(inputs)
    for position in range(0, len(good), 11):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        try:
            loaded = load_bundle(path)
        except ConfigError:
            continue
        # Bytes that mean nothing to the content (dates, flags of the archive) may change.
        assert np.array_equal(loaded.networks["actor"].forward(inputs), expected)


def test_a_pickle_in_the_archive_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, archive.open("arrays/evil.npy", "w") as member:
        np.save(member, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ConfigError, match="damaged"):
        load_bundle(path)


def test_a_newer_format_says_which_version_to_install(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with_header(path, format=FORMAT + 1, version="9.9.9")
    with pytest.raises(ConfigError, match=r"written by imbres-gym 9\.9\.9 in format 2"):
        load_bundle(path)


@pytest.mark.parametrize("changes", [{"networks": {"actor": {}}}, {"kind": None, "hosts": "many"}, {"metrics": 3}])
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = saved(tmp_path)
    with_header(path, **changes)
    with pytest.raises(ConfigError, match="damaged"):
        load_bundle(path)


def test_a_bundle_serves_only_what_it_was_trained_for() -> None:
    bundle = small_bundle()
    bundle.require(make_info(), "load", hosts=True)
    bundle.require(make_info(hosts=3), "load")
    with pytest.raises(ConfigError, match="of kind 'load', and 'scaling' is needed"):
        bundle.require(make_info(), "scaling")
    with pytest.raises(ConfigError, match="trained on the application 'chain' with the microservices"):
        bundle.require(make_info(microservices=3), "load")
    with pytest.raises(ConfigError, match="request classes read; this one has write"):
        bundle.require(make_info(classes=("write",)), "load")
    with pytest.raises(ConfigError, match="trained on 2 hosts, this cluster has 3"):
        bundle.require(make_info(hosts=3), "load", hosts=True)


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([np.nan]), np.array([{}], object)])
def test_only_finite_numbers_are_kept(tmp_path: Path, values: Any) -> None:
    with pytest.raises(ValueError, match="arrays/x"):
        saved(tmp_path, arrays={"x": values})
    with pytest.raises(ValueError, match="cannot be the name"):
        saved(tmp_path, arrays={"../x": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []
