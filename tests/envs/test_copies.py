from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.copies import Copies


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    original = np.arange(6.0).reshape(2, 3)
    copies = Copies(original)
    first = copies.make()
    place = first.ctypes.data
    first[:] = -1.0  # whatever the caller wrote into it is gone
    del first
    original += 1.0
    again = copies.make()
    assert again.ctypes.data == place
    np.testing.assert_array_equal(again, original)


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
def test_what_is_held_stays(hold: Any) -> None:
    original = np.arange(6.0).reshape(2, 3)
    copies = Copies(original)
    held = hold(copies.make())
    before: NDArray[Any] = np.array(held)
    for _ in range(5):
        original += 1.0
        np.testing.assert_array_equal(copies.make(), original)
    np.testing.assert_array_equal(np.array(held), before)


def test_many_that_are_held_differ() -> None:
    original = np.zeros(3)
    copies, all_of = Copies(original), []
    for _ in range(6):
        all_of.append(copies.make())
        original += 1.0
    assert [int(one[0]) for one in all_of] == list(range(6))


def test_a_caller_may_change_the_form_of_its_copy() -> None:
    copies = Copies(np.arange(6.0).reshape(2, 3))
    mine = copies.make()
    mine.shape = (6,)
    mine.flags.writeable = False
    del mine
    assert copies.make().shape == (2, 3)
    assert copies.make().flags.writeable
