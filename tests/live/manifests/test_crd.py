"""The custom resource's schema: the file is that of the models, and Kubernetes takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from imbres_gym.live.connection_plan import PlanSpec, PlanStatus
from imbres_gym.live.crd import HEADER, definition, main

TARGET = {"ip": "10.244.1.5", "port": 8080, "weight": 0.25}
SERVICE = {"service": "back", "clusterIp": "10.96.0.7", "port": 8080, "targets": [TARGET]}
POD = {"name": "front-1", "uid": "u1", "services": [SERVICE]}
SPEC = {"node": "node-1", "expiresAfterSeconds": 30, "pods": [POD]}


def schema_of(part: str) -> dict[str, Any]:
    (version,) = definition()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"][part]
    return schema


def accepted(schema: dict[str, Any], value: object) -> bool:
    # OpenAPI 3.0 took the words of draft 4; `nullable` it added itself.
    schema = yaml.safe_load(yaml.safe_dump(schema))
    for part in every_part(schema):
        if part.pop("nullable", False):
            part["type"] = [part["type"], "null"]
    checker = jsonschema.FormatChecker(["ipv4"])
    return jsonschema.Draft4Validator(schema, format_checker=checker).is_valid(value)


def every_part(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for part in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        yield from every_part(part)


def test_the_file_is_the_definition(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main()
    text = (folder / "crd.yaml").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out, "run: python -m imbres_gym.live.crd > configs/kubernetes/crd.yaml"
    assert text.startswith(HEADER)


def test_the_schema_is_structural() -> None:
    # https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
    words = {
        "type", "description", "required", "properties", "items", "nullable", "format",
        "minimum", "maximum", "exclusiveMinimum", "minItems",
    }  # fmt: skip
    for part in (*every_part(schema_of("spec")), *every_part(schema_of("status"))):
        assert set(part) <= words
        assert part["type"] in {"object", "array", "string", "number", "integer"}
        assert ("properties" in part) == (part["type"] == "object")
        assert ("items" in part) == (part["type"] == "array")


def test_what_the_models_write_is_accepted() -> None:
    plan = PlanSpec.model_validate(SPEC)
    assert accepted(schema_of("spec"), plan.model_dump(mode="json", by_alias=True))
    for error in (None, "why"):
        status = PlanStatus(observed_generation=3, applied_pods=1, error=error)
        assert accepted(schema_of("status"), status.model_dump(mode="json", by_alias=True))


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 0},
        {"weight": "much"},
        {"port": 0},
        {"port": 65536},
        {"ip": "fd00::1"},
        {"ip": "back"},
    ],
)
def test_a_wrong_target_is_refused_before_an_agent_sees_it(change: dict[str, object]) -> None:
    service = {**SERVICE, "targets": [{**TARGET, **change}]}
    assert not accepted(schema_of("spec"), {**SPEC, "pods": [{**POD, "services": [service]}]})


@pytest.mark.parametrize("key", ["node", "expiresAfterSeconds", "pods"])
def test_a_missing_key_is_refused(key: str) -> None:
    assert not accepted(schema_of("spec"), {name: value for name, value in SPEC.items() if name != key})


def test_a_service_without_targets_is_refused() -> None:
    assert not accepted(schema_of("spec"), {**SPEC, "pods": [{**POD, "services": [{**SERVICE, "targets": []}]}]})
