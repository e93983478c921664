from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imbres_gym.lent import Lent


def owned() -> NDArray[np.float64]:
    return np.arange(6.0).reshape(2, 3).copy()


def shared() -> NDArray[np.float64]:
    """As of shared memory: a view of an array that does not own its memory either."""
    return np.frombuffer(mmap.mmap(-1, 4096), np.float64, 6).reshape(2, 3)


@pytest.mark.parametrize("make", [owned, shared])
@pytest.mark.parametrize(
    "hold",
    [
        lambda a: a,
        lambda a: a[1],
        lambda a: a[:, 1:],
        lambda a: a.T[0].view(np.int64),
        memoryview,
        lambda a: np.asarray(a)[None],
        lambda a: np.lib.stride_tricks.as_strided(a, (2,), (8,)),
    ],
)
def test_what_is_held_is_not_free(hold: Any, make: Any) -> None:
    array = make()
    lent = Lent({"some": array, "other": np.zeros(2)})
    assert lent.free
    held = hold(lent.views()["some"])
    assert not lent.free
    del held
    assert lent.free


def test_a_caller_may_change_the_form_of_what_it_gets() -> None:
    lent = Lent({"some": owned()})
    mine = lent.views()["some"]
    mine.shape = (6,)
    mine.flags.writeable = False
    del mine
    assert lent.free
    again = lent.views()["some"]
    assert again.shape == (2, 3) and again.flags.writeable
