"""Environments in processes of their own: what goes wrong in one of them is said as it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from small_runs import Fragile

from imbres_gym.training.environments import WorkerDied, WorkerEnvironments

FINE, TOO_MUCH, DEADLY = 0.0, 1.0, -1.0


@pytest.fixture
def environments() -> Iterator[WorkerEnvironments]:
    """One in each of two processes."""
    two = WorkerEnvironments([[Fragile], [Fragile]])
    two.reset()
    yield two
    two.close()


@pytest.mark.parametrize("actions", [[[FINE], [TOO_MUCH]], [[TOO_MUCH], [FINE]]])
def test_what_an_environment_raises_is_raised(environments: WorkerEnvironments, actions: list[list[float]]) -> None:
    with pytest.raises(ArithmeticError, match="too much") as caught:
        environments.step(np.array(actions))
    assert "in step" in caught.value.__notes__[0]  # where it was
    assert environments.step(np.array([[FINE], [FINE]]))[1].tolist() == [1.0, 1.0]  # and no answer is left over


def test_a_process_that_is_gone_is_said_at_every_call(environments: WorkerEnvironments) -> None:
    for action in (DEADLY, FINE):
        with pytest.raises(WorkerDied, match=r"exit code 3"):
            environments.step(np.array([[action], [FINE]]))
