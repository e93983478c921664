"""Requests become trees, and many trees one: golden examples worked by hand."""

from __future__ import annotations

import pytest
import trace_files
from hypothesis import given
from hypothesis import strategies as st

from imbres_gym.alibaba.merging import call_tree, merge, repeat_and_probability
from imbres_gym.alibaba.traces import Callee, CallRecord, Row, build_trace


def rows(calls: list[trace_files.Call]) -> list[Row]:
    return [
        (time, rpc, kind, up, interface or None, down or None, rt) for time, rpc, kind, up, interface, down, rt in calls
    ]


def built(calls: list[trace_files.Call]) -> CallRecord:
    trace = build_trace(rows(calls))
    assert trace is not None
    return trace


def shape(call: CallRecord) -> object:
    return call.callee.name, call.times, sorted((shape(child) for child in call.children), key=str)


def name(callee: Callee) -> str:
    return f"{callee.name}/{callee.interface}"


def test_a_request_is_a_tree_and_remote_calls_count_once() -> None:
    trace = built(trace_files.alpha(0, with_log=True))
    # The queue is left out; the callee's record of 0.3 does not know who it is, the caller's does.
    leaves = [("log", 1, []), ("posts", 1, [("cache", 1, [])]), ("users", 1, [])]
    assert shape(trace) == ("front", 1, leaves)
    assert trace.callee == Callee("front", "get", False)


def test_stages_are_read_from_times_and_chances_from_counts() -> None:
    traces = [built(trace_files.alpha(0, with_log=index % 2 == 0)) for index in range(10)]
    assert call_tree(merge(traces), traces[0].callee, name) == {
        "call": "front/get",
        "stages": [
            # 1-7 ms and 2-10 ms overlap; 12-15 ms comes after both.
            [{"call": "users/find"}, {"call": "posts/list", "stages": [[{"call": "cache/call"}]]}],
            [{"call": "log/write", "probability": 0.5}],
        ],
    }


def test_calls_one_after_another_repeat() -> None:
    trace = built(trace_files.beta(0))
    assert call_tree(merge([trace]), trace.callee, name) == {
        "call": "gate/open",
        "stages": [[{"call": "users/find", "repeat": 2}]],
    }


def test_ids_given_twice_are_different_calls() -> None:
    # alibaba/clusterdata#124: threads that do not forward their context give one id to several calls of memcached.
    calls: list[trace_files.Call] = [(0, "0.1", "rpc", "a", "f", "b", 5.0)]
    calls += [(1, "0.1.1", "mc", "b", "", "cache", 0.0)] * 3
    assert shape(built(calls)) == ("b", 1, [("cache", 3, [])])


def test_a_call_whose_caller_is_missing_belongs_to_the_next_one_above() -> None:
    calls: list[trace_files.Call] = [
        (0, "0.1", "http", "", "f", "a", -5.0),
        (1, "0.1.2.1.1", "rpc", "x", "g", "b", 2.0),
        (1, "9.1.1", "rpc", "x", "g", "far", 2.0),  # hangs below nothing
    ]
    assert shape(built(calls)) == ("a", 1, [("b", 1, [])])


@pytest.mark.parametrize("entry", ["", "(?)", "UNKNOWN", "NAN"])
def test_a_request_without_a_known_entry_is_none(entry: str) -> None:
    assert build_trace(rows([(0, "0", "http", "", "f", entry, -5.0)])) is None
    assert build_trace(rows([(0, "0", "mc", "", "", "cache", 5.0)])) is None


def test_rare_calls_are_left_out() -> None:
    often = built([(0, "0", "http", "", "f", "a", -5.0)])
    seldom = built([(0, "0", "http", "", "f", "a", -5.0), (1, "0.1", "rpc", "a", "g", "b", 2.0)])
    assert "stages" not in call_tree(merge([often] * 199 + [seldom]), often.callee, name)
    assert call_tree(merge([often] * 9 + [seldom]), often.callee, name)["stages"] == [
        [{"call": "b/g", "probability": 0.1}]
    ]


@given(st.integers(1, 1000), st.data())
def test_the_expected_number_of_calls_is_kept(visits: int, data: st.DataObject) -> None:
    with_call = data.draw(st.integers(1, visits))
    calls = data.draw(st.integers(with_call, 20 * with_call))
    repeat, probability = repeat_and_probability(calls / visits, with_call / visits)
    assert repeat >= 1
    assert 0.0 < probability <= 1.0
    assert repeat * probability == pytest.approx(calls / visits)
    if calls % with_call == 0:
        assert probability == pytest.approx(with_call / visits)
