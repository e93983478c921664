"""Runs `imbres-gym live` as a user does: a process of its own, with the controller's rights of the manifests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from live_cluster import APPLICATION, NAMESPACE

from imbres_gym.config import config_root
from scripts.testbed.layout import CONTEXT, ROOT

Event = dict[str, Any]


def bed_config() -> dict[str, Any]:
    """The configuration that the bed's application comes with."""
    file = config_root() / "live" / f"{APPLICATION}.yaml"
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return config


def prometheus(**queries: str) -> dict[str, Any]:
    """The bed's configuration of Prometheus with some queries replaced."""
    found: dict[str, Any] = bed_config()["prometheus"]
    return {**found, "queries": {**found["queries"], **queries}}


def from_traces(url: str) -> dict[str, Any]:
    """Changes of the bed's configuration: own latencies come from a trace store only, not from histograms."""
    without = dict.fromkeys(("own_latency_sum", "own_latency_buckets", "own_latency_time"), "")
    return {"prometheus": prometheus(**without), "jaeger": {"url": url, "use": "always"}}


class Controller:
    """One controller; its journal is read from a file, so that it never waits for a reader."""

    def __init__(
        self, folder: Path, kubeconfig: Path, agent: str = "load-shifting", clock: Path | None = None, **changes: Any
    ) -> None:
        self.folder = folder
        self._environment = {**os.environ, "LD_PRELOAD": str(clock)} if clock is not None else None
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "live.yaml"
        self.config.write_text(yaml.safe_dump({**bed_config(), "namespace": NAMESPACE, "agent": agent, **changes}))
        self.kubeconfig = kubeconfig
        self._journal = folder / "journal.jsonl"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        files = ["--config", str(self.config), "--context", CONTEXT, "--kubeconfig", str(self.kubeconfig)]
        return [sys.executable, "-m", "imbres_gym", "live", *words, *files]

    def start(self) -> None:
        with self._journal.open("ab") as journal, (self.folder / "errors").open("ab") as errors:
            self.process = subprocess.Popen(
                self.command(), stdout=journal, stderr=errors, cwd=ROOT, env=self._environment
            )

    def events(self, kind: str | None = None) -> list[Event]:
        """What it has said so far; a line that is being written is not read yet."""
        text = self._journal.read_text(encoding="utf-8") if self._journal.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if kind in {None, line["event"]}]

    def wait_for(
        self, condition: Callable[[Event], object], what: str, timeout_s: float = 60.0, after: int = 0
    ) -> tuple[Event, float]:
        """The first event after so many that meets a condition, and how long it took [s]."""
        began = time.monotonic()
        while True:
            for event in self.events()[after:]:
                if condition(event):
                    return event, time.monotonic() - began
            said = (self.folder / "errors").read_text(encoding="utf-8")[-1500:]
            assert self.process is not None and self.process.poll() is None, f"the controller ended: {said}"
            assert time.monotonic() - began < timeout_s, f"{what}: not after {timeout_s:g} s; last {self.events()[-1:]}"
            time.sleep(0.2)

    def wait_decision(self, outcome: str, timeout_s: float = 60.0, after: int = 0) -> tuple[Event, float]:
        return self.wait_for(lambda e: e["event"] == "decision" and e["outcome"] == outcome, outcome, timeout_s, after)

    def stop(self) -> int:
        """End it as Kubernetes ends a pod; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60.0)

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10.0)

    def end(self) -> None:
        """Make sure that it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
