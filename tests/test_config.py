"""Reading YAML: errors name the file, the key, the value and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from imbres_gym.config import (
    ConfigError,
    StrictModel,
    available,
    find_config,
    key_error,
    nearest,
    read_yaml,
    validate,
)


class Cat(StrictModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(StrictModel):
    kind: Literal["dog"] = "dog"
    weight_kg: float = Field(gt=0.0)


class Home(StrictModel):
    street: str
    large: bool = False
    area: float | None = None
    pets: dict[str, Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(default_factory=dict)
    rooms: list[Cat] = Field(default_factory=list)

    @model_validator(mode="after")
    def _no_cat_named_dog(self) -> Home:
        if "dog" in self.pets:
            raise key_error("pets.dog", "choose another name")
        return self


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def error_of(data: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Home, data, "home.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"stret": "x"}, "stret: unknown key; did you mean 'street'?"),
        ({"area": "80m2"}, "area: must be a number, without a unit (got '80m2')"),
        ({"area": float("nan")}, "area: Input should be a finite number (got nan)"),
        ({"area": float("inf")}, "area: Input should be a finite number (got inf)"),
        ({"area": True}, "area: true is not a value of this key (YAML reads yes, no, on and off so)"),
        (
            {"pets": {"rex": {"kind": "dog", "weight_kg": -1}}},
            "pets.rex.weight_kg: Input should be greater than 0 (got -1)",
        ),
        ({"pets": {"rex": {"kind": "dgo"}}}, "pets.rex.kind: there is no kind 'dgo'; did you mean 'dog'?"),
        ({"pets": {"rex": {"weight_kg": 3}}}, "pets.rex.kind: missing; known: cat, dog"),
        ({"pets": {"tom": {"kind": "cat", "livs": 7}}}, "pets.tom.livs: unknown key; did you mean 'lives'?"),
        ({"pets": {"rex": {"kind": "dog"}}}, "pets.rex.weight_kg: missing; it has no default"),
        ({"pets": {"dog": {"kind": "cat"}}}, "pets.dog: choose another name"),
        ({"rooms": [{}, {"lives": "nine"}]}, "rooms.1.lives: must be a number, without a unit (got 'nine')"),
        ({"rooms": [{"livs": 3}]}, "rooms.0.livs: unknown key; did you mean 'lives'?"),
        ({"rooms": {"lives": 3}}, "rooms: Input should be a valid list"),
    ],
)
def test_an_error_names_file_key_value_and_fix(change: dict[str, object], line: str) -> None:
    assert line in error_of({"street": "Elm", **change}).splitlines()[1]


def test_every_error_has_a_line_of_its_own() -> None:
    message = error_of({"area": "x", "large": "maybe"})
    assert message.startswith("home.yaml:\n")
    assert [line.strip().split(":")[0] for line in message.splitlines()[1:]] == ["street", "large", "area"]


def test_true_and_false_are_values_of_switches() -> None:
    assert validate(Home, {"street": "Elm", "large": True}, "home.yaml").large


def test_models_are_frozen() -> None:
    home = validate(Home, {"street": "Elm"}, "home.yaml")
    with pytest.raises(ValueError, match="frozen"):
        home.street = "Oak"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "not valid YAML"),
        ("a: 2024-13-45\n", "not valid YAML"),
        ("- 1\n", "expected keys and values, found list"),
        ("", "expected keys and values, found NoneType"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("a: {b: 1,\n  b: 2}\n", "a.b: written twice (first in line 1); keep one"),
        ("a:\n- {x: 1}\n- {y: 1, y: 2}\n", "3: a.1.y: written twice"),
        ("tree: &t {call: x, stages: [[*t]]}\n", "tree.stages.0.0: this anchor holds an alias to itself"),
        ("a: &a\n  b: &b [*a, *b]\n", "a.b.0: this anchor holds an alias to itself"),
        ("a: " + "[" * 500 + "]" * 500, "nested too deeply"),
    ],
)
def test_a_file_that_is_not_sound_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.yaml", text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(path)


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    path = write(tmp_path / "x.yaml", "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": [{"x": 1, "y": 2}] * 2}


def test_shared_anchors_are_checked_in_linear_time(tmp_path: Path) -> None:
    """Forty levels of two aliases each are 2^40 paths, but 40 nodes."""
    levels = "".join(f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}]\n" for i in range(1, 41))
    path = write(tmp_path / "x.yaml", "l0: &l0 [1]\n" + levels)
    assert len(read_yaml(path)) == 41


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
documents = st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=4)


@settings(max_examples=40)
@given(documents)
def test_what_yaml_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: dict[str, object]) -> None:
    path = write(tmp_path_factory.getbasetemp() / "again.yaml", yaml.safe_dump(data))
    assert read_yaml(path) == data


def test_nearest_names() -> None:
    assert nearest("nginx-trift", ["nginx-thrift", "text"]) == "did you mean 'nginx-thrift'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "none is defined"


def test_a_name_means_a_shipped_file_and_a_suffix_means_a_path(tmp_path: Path) -> None:
    assert find_config("applications", "social-network").name == "social-network.yaml"
    own = write(tmp_path / "own.yml", "a: 1\n")
    assert find_config("applications", own) == own
    with pytest.raises(ConfigError, match="there is no application 'socal-network'; did you mean 'social-network'"):
        find_config("applications", "socal-network")
    with pytest.raises(ConfigError, match="no such file"):
        find_config("applications", tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="'social-network' is shipped, without suffix"):
        find_config("applications", "social-network.yaml")


def test_shipped_names_are_sorted_paths_without_suffix() -> None:
    names = available("scenarios")
    assert names == sorted(names)
    assert "social-network/high-strict" in names
