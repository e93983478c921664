"""A scenario that is searched in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

APPLICATION = """
name: tiny
container: {cores: 0.5, memory_mb: 100}
hop_ms: 0.1
microservices:
  front: {operations: {ask: {cpu_ms: 20}}}
  back: {operations: {answer: {cpu_ms: 30}}}
request_classes:
  read:
    share: 1
    tree: {call: front/ask, stages: [[{call: back/answer}]]}
"""
SCENARIO = """
application: tiny-app.yaml
hosts: {count: 2, cores: 8, memory_mb: 4000}
workload: {kind: constant, rps: 60}
interference: {kind: constant, levels: [{cpu: 0.1}, {cpu: 0.6}]}
sla_ms: 250
duration: 1m
"""


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    (tmp_path / "tiny-app.yaml").write_text(APPLICATION)
    file = tmp_path / "tiny.yaml"
    file.write_text(SCENARIO)
    return file
