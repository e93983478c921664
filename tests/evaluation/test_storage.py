from __future__ import annotations

import errno
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import evaluation_fakes as fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbres_gym.agent import AgentConfig
from imbres_gym.evaluation.episode import EpisodeResult, run_episode
from imbres_gym.evaluation.storage import (
    CannotWrite,
    episode_path,
    load_episode,
    save_episode,
    stored_episode,
    write_atomically,
)
from imbres_gym.sim.workload import ReplayWorkload


def same(left: EpisodeResult, right: EpisodeResult) -> bool:
    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
        return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)

    return all(equal(getattr(left, f.name), getattr(right, f.name)) for f in fields(EpisodeResult))


def test_an_episode_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = run_episode(fakes.task())
    path = episode_path(tmp_path, fakes.task())
    save_episode(result, path)
    assert path.name == "tiny--fake.steady.seed-1000.npz"
    assert same(load_episode(path), result)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CannotWrite, match=f"no space left on device: '{path}'"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_same_episode_is_reused(tmp_path: Path) -> None:
    task = fakes.task()
    assert stored_episode(tmp_path, task) == (None, "")
    save_episode(run_episode(task), episode_path(tmp_path, task))
    found, reason = stored_episode(tmp_path, task)
    assert found is not None
    assert reason == ""
    stretched = task.scenario.model_copy(update={"sla_ms": 90.0})
    longer = task.scenario.model_copy(update={"duration": 240.0})
    other_agent = AgentConfig(name="steady", agent="evaluation_fakes:SteadyAgent", options={"replicas": 4})
    for changed, part in (
        (replace(task, scenario=stretched), "scenario"),
        (replace(task, scenario=longer), "duration"),
        (replace(task, agent=other_agent), "agent"),
        (replace(task, warmup_s=60.0), "warmup"),
    ):
        found, reason = stored_episode(tmp_path, changed)
        assert found is None
        assert reason == f"tiny--fake.steady.seed-1000.npz: another {part}"
    assert stored_episode(tmp_path, replace(task, seed=1001)) == (None, "")


def test_an_episode_of_an_earlier_list_of_metrics_runs_again(tmp_path: Path) -> None:
    result = run_episode(fakes.task())
    settled = {name: value for name, value in result.metrics["settled"].items() if name != "load_variance"}
    old = replace(result, metrics={**result.metrics, "settled": settled})
    save_episode(old, episode_path(tmp_path, fakes.task()))
    assert stored_episode(tmp_path, fakes.task()) == (None, "tiny--fake.steady.seed-1000.npz: other metrics")


def test_the_fingerprint_follows_the_content_of_a_replayed_workload(tmp_path: Path) -> None:
    file = tmp_path / "rates.txt"
    file.write_text("10\n")
    task = fakes.task()
    replay = replace(task, scenario=task.scenario.model_copy(update={"workload": ReplayWorkload(file=file)}))
    before = replay.fingerprint()
    file.write_text("20\n")
    assert replay.fingerprint()["scenario"] != before["scenario"]


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_named_and_not_reused(tmp_path: Path, content: bytes) -> None:
    path = episode_path(tmp_path, fakes.task())
    write_atomically(path, content)
    found, reason = stored_episode(tmp_path, fakes.task())
    assert found is None
    assert str(path) in reason


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with an episode."""
    path = tmp_path_factory.mktemp("stored") / "good.npz"
    save_episode(run_episode(fakes.task()), path)
    return path


@given(
    flips=st.lists(st.tuples(st.floats(0.0, 0.999), st.integers(1, 255)), max_size=3),
    kept=st.just(1.0) | st.floats(0.0, 1.0),
)
@settings(max_examples=150)
def test_damage_anywhere_is_found_or_does_not_matter(stored: Path, flips: list[tuple[float, int]], kept: float) -> None:
    """Bits flipped, or the end cut off: the episode is refused with a reason, or read as it was written."""
    damaged = bytearray(stored.read_bytes())
    for place, bits in flips:
        damaged[int(place * len(damaged))] ^= bits
    path = episode_path(stored.parent, fakes.task())
    write_atomically(path, damaged[: round(kept * len(damaged))])
    found, reason = stored_episode(stored.parent, fakes.task())
    if found is None:
        assert str(path) in reason or f"{path.name}: another" in reason
    else:
        assert same(found, load_episode(stored))


def test_an_episode_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = episode_path(tmp_path, fakes.task())
    path.mkdir(parents=True)
    found, reason = stored_episode(tmp_path, fakes.task())
    assert found is None
    assert reason.startswith(f"{path}: not an episode file")
    assert "Is a directory" in reason
