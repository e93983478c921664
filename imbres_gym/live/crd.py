"""The definition of `ConnectionPlan` for Kubernetes, made from its models, so that both say the same.

`python -m imbres_gym.live.crd` prints what `configs/kubernetes/crd.yaml` holds. The schema is structural, as
apiextensions.k8s.io/v1 asks (served since Kubernetes 1.16): what it cannot say, such as that no pod is named twice, the
node agent checks and reports.
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from imbres_gym.live.connection_plan import GROUP, KIND, PLURAL, VERSION, PlanSpec, PlanStatus

HEADER = "# Made by `python -m imbres_gym.live.crd`; a test compares.\n"
COLUMNS = (
    ("Node", "string", ".spec.node"),
    ("Pods", "integer", ".status.appliedPods"),
    ("Applied", "date", ".status.appliedAt"),
    ("Error", "string", ".status.error"),
    ("Age", "date", ".metadata.creationTimestamp"),
)
_KEPT = {"type", "description", "required", "minItems", "maximum", "minimum"}


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    schema = {
        "type": "object",
        "description": "Weighted connections of the upstream pods of one application on one node.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(PlanSpec),
            "status": structural(PlanStatus),
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": name, "type": kind, "jsonPath": path} for name, kind, path in COLUMNS],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "singular": KIND.lower()},
            "versions": [version],
        },
    }


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema in the words of a structural schema."""
    schema = model.model_json_schema(by_alias=True)
    return _converted(schema, schema.get("$defs", {}))


def _converted(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One level of a schema: references written out, and only words that Kubernetes knows."""
    if "$ref" in schema:
        own = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **own}
    if "anyOf" in schema:  # of a type and null
        (schema_of_value,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        schema = {**schema, **schema_of_value}
    nullable = any(option.get("type") == "null" for option in schema.get("anyOf", ()))
    result = {key: value for key, value in schema.items() if key in _KEPT}
    if nullable:
        result["nullable"] = True
    if schema["type"] == "integer":
        result["format"] = "int64"
    if schema.get("format") == "ipvanyaddress":
        result["format"] = "ipv4"  # the node agent programs no other
    if "exclusiveMinimum" in schema:  # a number in JSON Schema, a switch in OpenAPI 3.0
        result |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    if "items" in schema:
        result["items"] = _converted(schema["items"], definitions)
    if "properties" in schema:
        result["properties"] = {name: _converted(part, definitions) for name, part in schema["properties"].items()}
    return result


def main() -> None:
    """Print the file."""
    print(HEADER + yaml.safe_dump(definition(), sort_keys=False, width=110), end="")


if __name__ == "__main__":
    main()
