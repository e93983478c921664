"""Reading YAML files into validated models, with errors that say file, key, value and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(ValueError):
    """A configuration file is wrong. The message names the file, the key, the value and a fix."""


class StrictModel(BaseModel):
    """Base of every configuration model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names is meant: 'did you mean ...?' or the list of them."""
    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(sorted(names))}" if names else "none is defined"


def config_root() -> Path:
    """The folder of the shipped configurations: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    return checkout if checkout.is_dir() else package / "configs"


def available(kind: str) -> list[str]:
    """Names of the shipped configurations of one kind ("applications", "scenarios", "agents"), sorted."""
    root = config_root() / kind
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def find_config(kind: str, reference: str | Path) -> Path:
    """The file that a name or a path means.

    Raises:
        ConfigError: nothing of that name; says the nearest one.
    """
    path = Path(reference)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ConfigError(f"{path}: there is no such file")
    shipped = config_root() / kind / f"{reference}.yaml"
    if shipped.is_file():
        return shipped
    raise ConfigError(
        f"there is no {kind.removesuffix('s')} {str(reference)!r}; {nearest(str(reference), available(kind))}"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Parse one YAML file that holds a mapping.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(data).__name__}")
    return data


def validate(model: type[Model], data: dict[str, Any], source: str | Path) -> Model:
    """Build `model` from `data`; `source` names the file in errors."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, item) for item in error.errors()]
        raise ConfigError(f"{source}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def load_model(model: type[Model], kind: str, reference: str | Path) -> Model:
    """Find, read and validate one configuration file."""
    path = find_config(kind, reference)
    return validate(model, read_yaml(path), path)


def _explain(model: type[BaseModel], item: Any) -> str:
    """One line for one pydantic error: key, value, what is wrong, what would be right."""
    location = [part for part in item["loc"] if not str(part).startswith("function-")]
    key = ".".join(str(part) for part in location) or "(file)"
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return f"{key}: unknown key; {nearest(str(location[-1]), known)}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{key}: missing"
    value = item.get("input")
    shown = "" if isinstance(value, (dict, list, BaseModel)) else f" (got {value!r})"
    return f"{key}: {message}{shown}"


def _fields_at(model: type[BaseModel], location: list[Any]) -> list[str]:
    """Names of the fields of the model at a place inside `model`, as far as it can be followed."""
    current: Any = model
    for part in location:
        annotation = None
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            annotation = current.model_fields[part].annotation
        elif current is not None:
            annotation = current
        current = _model_in(annotation, str(part))
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _model_in(annotation: Any, tag: str) -> Any:
    """The model inside a (nested) container or union annotation; of a tagged union, the one with that `kind`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(argument, tag) for argument in getattr(annotation, "__args__", ())]
    models = [m for m in found if isinstance(m, type) and issubclass(m, BaseModel)]
    for candidate in models:
        kind = candidate.model_fields.get("kind")
        if kind is not None and kind.default == tag:
            return candidate
    return models[0] if len(models) == 1 else annotation
