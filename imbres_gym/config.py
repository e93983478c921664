"""Reading YAML files into validated models, with errors that say file, key, value and what would be right."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(ValueError):
    """A configuration file is wrong. The message names the file, the key, the value and a fix."""


class StrictModel(BaseModel):
    """Base of every configuration model: frozen, an unknown key is an error, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_stray_booleans(cls, data: Any) -> Any:
        # Without this, YAML's yes, no, on and off would count as the numbers 1 and 0.
        for name, value in data.items() if isinstance(data, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                message = f"{str(value).lower()} is not a value of this key (YAML reads yes, no, on and off so)"
                raise key_error(name, message)
        return data


def key_error(key: str, message: str) -> PydanticCustomError:
    """An error for a model's validator to raise that names a key inside the model.

    Args:
        key: dotted, from the model on ("hosts.count").
        message: what is wrong and what would be right.
    """
    return PydanticCustomError("key", "{message}", {"key": key, "message": message})


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
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def find_config(kind: str, reference: str | Path) -> Path:
    """The file that a name or a path means.

    Raises:
        ConfigError: nothing of that name; says the nearest one.
    """
    path = Path(reference)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        shipped_name = path.with_suffix("").as_posix()
        hint = f"; {shipped_name!r} is shipped, without suffix" if shipped_name in available(kind) else ""
        raise ConfigError(f"{path}: there is no such file{hint}")
    shipped = config_root() / kind / f"{reference}.yaml"
    if shipped.is_file():
        return shipped
    inside = [name for name in available(kind) if name.startswith(f"{reference}/")]
    hint = f"there are {', '.join(inside)}" if inside else nearest(str(reference), available(kind))
    raise ConfigError(f"there is no {kind.removesuffix('s')} {str(reference)!r}; {hint}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Parse one YAML file that holds a mapping.

    Raises:
        ConfigError: not YAML, not a mapping, a key written twice, or an alias inside its own anchor.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is not None:
            _check_node(node, path, (), set(), set())
        data = None if node is None else loader.construct_document(node)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(data).__name__}")
    return data


def cell_number(text: str | None, where: str, column: str, most: float) -> float:
    """The number in one cell of a CSV, from 0 to `most`.

    Raises:
        ConfigError: it is none, or outside; names `where` (file and line) and the column.
    """
    try:
        value = float(text or "")
    except ValueError:
        raise ConfigError(f"{where}: {column}: {text!r} is not a number") from None
    if not (math.isfinite(value) and 0.0 <= value <= most):
        upper = "" if math.isinf(most) else f" and at most {most:g}"
        raise ConfigError(f"{where}: {column}: {text!r} must be at least 0{upper}")
    return value


def validate(model: type[Model], data: dict[str, Any], source: str | Path) -> Model:
    """Build `model` from `data`; `source` names the file in errors.

    Raises:
        ConfigError: one line for each thing that is wrong.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, item) for item in error.errors()]
        raise ConfigError(f"{source}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def load_model(model: type[Model], kind: str, reference: str | Path) -> Model:
    """Find, read and validate one configuration file."""
    path = find_config(kind, reference)
    return validate(model, read_yaml(path), path)


def _check_node(node: yaml.Node, path: Path, key: tuple[str, ...], above: set[int], done: set[int]) -> None:
    """Refuse a key that is written twice, and an alias inside its own anchor (an endless tree).

    Args:
        node: of the parsed document, before it becomes Python objects.
        path: of the file, for the error.
        key: of the node.
        above: ids of the nodes that hold this one.
        done: ids of the nodes already checked, which aliases lead to again.
    """
    line = node.start_mark.line + 1
    if id(node) in above:
        raise ConfigError(f"{path}:{line}: {'.'.join(key)}: this anchor holds an alias to itself; write the part out")
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            here = (*key, str(name.value))
            line = name.start_mark.line + 1
            if str(name.value) in first:
                raise ConfigError(
                    f"{path}:{line}: {'.'.join(here)}: written twice (first in line {first[name.value]}); keep one"
                )
            first[str(name.value)] = line
            _check_node(value, path, here, above | {id(node)}, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _check_node(value, path, (*key, str(index)), above | {id(node)}, done)


def _explain(model: type[BaseModel], item: Any) -> str:
    """One line for one pydantic error: key, value, what is wrong, what would be right."""
    location, place = _follow(model, item["loc"])
    context = item.get("ctx", {})
    if item["type"] == "extra_forbidden":
        _, holder = _follow(model, item["loc"][:-1])
        known = holder.model_fields if isinstance(holder, type) and issubclass(holder, BaseModel) else ()
        return f"{'.'.join(location)}: unknown key; {nearest(location[-1], known)}"
    if item["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return _explain_tag([*location, context["discriminator"].strip("'")], context.get("tag"), place)
    if item["type"] == "key":
        location.append(context["key"])
    key = ".".join(location) or "(file)"
    if item["type"] == "missing":
        return f"{key}: missing; it has no default"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] in {"float_parsing", "int_parsing"}:
        message = "must be a number, without a unit"
    value = item.get("input")
    shown = "" if isinstance(value, (dict, list, BaseModel)) or item["type"] == "key" else f" (got {value!r})"
    return f"{key}: {message}{shown}"


def _explain_tag(location: list[str], tag: str | None, union: Any) -> str:
    """The line for a tagged union whose tag is missing or unknown."""
    tags = [str(m.model_fields[location[-1]].default) for m in get_args(union)]
    key = ".".join(location)
    if tag is None:
        return f"{key}: missing; known: {', '.join(tags)}"
    return f"{key}: there is no kind {tag!r}; {nearest(tag, tags)}"


def _follow(model: type[BaseModel], location: Iterable[int | str]) -> tuple[list[str], Any]:
    """The keys that a pydantic error location means in the file, and the type of what is there.

    Pydantic's locations also name the members of unions, validators and keys of mappings, which no file contains.
    """
    keys: list[str] = []
    current: Any = model
    for part in location:
        current = _bare(current)
        if part == "[key]":
            continue
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            keys.append(str(part))
            current = field.annotation if field is not None else None
        elif get_origin(current) in {Union, types.UnionType}:
            current = next((m for m in get_args(current) if _is_member(m, str(part))), current)
        else:
            keys.append(str(part))
            current = (get_args(current) or (None,))[-1]
    return keys, _bare(current)


def _bare(annotation: Any) -> Any:
    """An annotation without `Annotated` and `None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    members = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) in {Union, types.UnionType} and len(members) == 1:
        return _bare(members[0])
    return annotation


def _is_member(member: Any, name: str) -> bool:
    """Whether a part of an error location names this member of a union: by its `kind`, or by its type."""
    member = _bare(member)
    kind = member.model_fields.get("kind") if isinstance(member, type) and issubclass(member, BaseModel) else None
    return name in {getattr(member, "__name__", None), kind.default if kind is not None else None}
