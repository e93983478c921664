"""Same seed, same bits: again, in another process, and from a snapshot."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
from theory.builders import application, call, microservice, scenario

from imbres_gym.plan import Plan
from imbres_gym.scenario import Hosts, Scenario
from imbres_gym.sim.effects import Effects
from imbres_gym.sim.events import EventCluster
from imbres_gym.sim.interference import Level, MovingInterference
from imbres_gym.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]


def busy() -> Scenario:
    """Two microservices under quota, moving interference and rejections on two hosts."""
    app = application(
        {"a": microservice(4.0, 0.5, workers=20, accept_queue=5), "b": microservice(6.0, 0.5)},
        call("a", [call("b", probability=0.7), call("b")]),
        hop_ms=0.5,
    )
    setting = scenario(
        app,
        60.0,
        {"a": 2, "b": 3},
        hosts=Hosts(count=2, cores=8.0, memory_mb=1e4),
        effects=Effects(),
        trace_sampling=0.2,
    )
    moving = MovingInterference(levels=[Level(cpu=0.3), Level(cpu=0.6, memory_bandwidth=0.5)], jumps_per_minute=0.5)
    return setting.model_copy(update={"interference": moving})


def digest(telemetry: Telemetry) -> str:
    """A hash of every bit of a telemetry."""
    hashed = hashlib.sha256()
    for field in dataclasses.fields(telemetry):
        value = getattr(telemetry, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            array = np.asarray(part)
            hashed.update(f"{field.name} {array.dtype} {array.shape}".encode())
            hashed.update(array.tobytes())
    return hashed.hexdigest()


def drive(cluster: EventCluster, steps: int) -> list[str]:
    """Hashes of some intervals in which every part of a plan changes."""
    hashes = []
    for step in range(steps):
        replicas = np.array([2 + step % 3, 3 + step % 2])
        cluster.apply(Plan(replicas=replicas))
        hashes.append(digest(cluster.advance(5.0)))
    return hashes


def episode(seed: int) -> list[str]:
    """Hashes of the telemetry of an episode."""
    cluster = EventCluster(busy())
    return [digest(cluster.reset(seed)), *drive(cluster, 6)]


def test_same_seed_same_bits() -> None:
    """On one cluster, on another, and not with another seed."""
    cluster = EventCluster(busy())
    first = [digest(cluster.reset(7)), *drive(cluster, 6)]
    again = [digest(cluster.reset(7)), *drive(cluster, 6)]
    assert first == again == episode(7)
    assert not set(first) & set(episode(8))


def test_same_bits_in_another_process() -> None:
    """Nothing depends on the process: hash seeds, addresses, what ran before."""
    code = "import sys; sys.path += ['tests', 'tests/sim']; import test_reproducible as t; print(*t.episode(7))"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True).stdout
    assert output.split() == episode(7)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}


def test_snapshot_gives_the_same_future() -> None:
    """Bit for bit, as often as wanted, after pickling, and in a cluster that has never run."""
    cluster = EventCluster(busy())
    cluster.reset(9)
    drive(cluster, 2)
    saved = cluster.snapshot()
    future = drive(cluster, 4)
    cluster.restore(saved)
    assert drive(cluster, 4) == future
    copied = pickle.loads(pickle.dumps(saved))
    other = EventCluster(busy())
    other.restore(copied)
    assert drive(other, 4) == future
    cluster.restore(saved)
    assert drive(cluster, 4) == future


def test_measuring_more_often_changes_nothing() -> None:
    """Ten seconds are two times five: the same requests, the same latencies."""
    one, two = EventCluster(busy()), EventCluster(busy())
    one.reset(10)
    two.reset(10)
    whole = one.advance(10.0)
    halves = [two.advance(5.0), two.advance(5.0)]
    np.testing.assert_array_equal(whole.requests, halves[0].requests + halves[1].requests)
    for c, latencies in enumerate(whole.latencies_ms):
        np.testing.assert_array_equal(latencies, np.concatenate([half.latencies_ms[c] for half in halves]))
