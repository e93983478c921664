"""Tells Prometheus which pods to scrape: `python3 -m scripts.testbed.targets` runs until it is ended.

Debian builds Prometheus without service discovery through Kubernetes' API, so this loop lists the pods that carry the
application's label and writes them to a file that Prometheus watches.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

from scripts.testbed import api
from scripts.testbed.layout import RUN

APPLICATION_LABEL = "imbres-gym.io/application"
MICROSERVICE_LABEL = "imbres-gym.io/microservice"
PORT = 8080
FILE = RUN / "prometheus/pods.json"
PAUSE_S = 2.0


def targets(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prometheus' targets for pods that have an address and are not being deleted."""
    found = []
    for pod in pods:
        meta, address = pod["metadata"], pod["status"].get("podIP")
        if not address or pod["status"].get("phase") != "Running" or "deletionTimestamp" in meta:
            continue
        labels = {"namespace": meta["namespace"], "pod": meta["name"], "node": pod["spec"]["nodeName"]}
        labels["application"] = meta["labels"][APPLICATION_LABEL]
        labels["microservice"] = meta["labels"].get(MICROSERVICE_LABEL, "")
        found.append({"targets": [f"{address}:{PORT}"], "labels": labels})
    return sorted(found, key=lambda target: json.dumps(target, sort_keys=True))


def refresh(file: Path = FILE) -> None:
    """Rewrite the file, at once and only if something changed."""
    path = f"/api/v1/pods?labelSelector={urllib.parse.quote(APPLICATION_LABEL)}"
    text = json.dumps(targets(api.get(path)["items"]), indent=1)
    if not file.exists() or file.read_text() != text:
        new = file.with_suffix(".new")
        new.write_text(text)
        new.replace(file)


def main() -> None:
    """Refresh for ever; while the API server is away the last targets stay."""
    while True:
        try:
            refresh()
        except OSError as error:
            print(f"cannot list pods: {error}", file=sys.stderr, flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
