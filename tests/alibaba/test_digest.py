"""A download is read once, and goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import trace_files

from imbres_gym.alibaba import digest as digesting
from imbres_gym.alibaba.digest import Digest, digest
from imbres_gym.alibaba.parts import Block, Part, read_blocks
from imbres_gym.alibaba.schemas import Table
from imbres_gym.config import ConfigError


def read(folder: Path, cache: Path, sample: float | None = 1.0) -> Digest:
    return digest(folder, cache, sample, lambda part, position, finished: None)


def test_tables_add_up_over_files(tmp_path: Path) -> None:
    folder = trace_files.write_download(tmp_path / "data", "v2021")
    # The same containers in a second file double every sum.
    trace_files.write(folder, "MSResource/MSResource_1", trace_files.table("v2021", "MSResource"), ".csv.gz")
    result = read(folder, tmp_path / "kept")
    front = result.table(Table.CONTAINERS).filter(microservice="front", timestamp=0).collect().row(0, named=True)
    assert front["cpu"] == pytest.approx(2 * 0.4)
    assert front["rows"] == 4
    assert result.counts[Table.CONTAINERS].files == 2
    hosts = result.table(Table.HOSTS).filter(host="h-mid", minute=1).collect().row(0, named=True)
    assert hosts["cpu"] / hosts["rows"] == pytest.approx(0.6)
    # Incoming calls only: consumerRPC is what the microservice calls itself, RT are times.
    rates = result.table(Table.RATES).filter(microservice="front", timestamp=0).collect()["calls"].to_list()
    assert rates == [pytest.approx(200.0)]


def test_what_is_finished_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = trace_files.write_download(tmp_path / "data", "v2022"), tmp_path / "kept"
    started: list[str] = []

    def interrupted(part: Part) -> Iterator[Block]:
        started.append(part.file.name)
        yield from read_blocks(part)
        if len(started) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(digesting, "read_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(folder, cache)
    resumed = read(folder, cache)
    assert started[:3] == ["NodeMetrics_0.csv", "MSMetrics_0.csv", "MSRTMCR_0.csv"]
    assert started[3:] == ["MSRTMCR_0.csv", "CallGraph_0.csv", "CallGraph_1.csv"]
    read(folder, cache)
    assert len(started) == 6
    fresh = read(folder, tmp_path / "again")
    assert resumed.counts == fresh.counts
    for table in Table:
        assert sorted(resumed.table(table).collect().rows(), key=str) == sorted(
            fresh.table(table).collect().rows(), key=str
        )


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    folder, cache = trace_files.write_download(tmp_path / "data", "v2021"), tmp_path / "kept"
    before = read(folder, cache).counts[Table.HOSTS].rows
    header, *rows = trace_files.table("v2021", "Node").splitlines()
    trace_files.write(folder, "Node/Node", "\n".join([header, *rows[:8]]), ".csv")
    assert (before, read(folder, cache).counts[Table.HOSTS].rows) == (80, 8)


def test_a_sample_has_whole_requests_the_same_in_every_file(tmp_path: Path) -> None:
    folder = trace_files.write_download(tmp_path / "data", "v2021", call_files=3)
    whole = read(folder, tmp_path / "kept").table(Table.CALLS).group_by("trace").len().collect()
    half = read(folder, tmp_path / "kept", 0.5).table(Table.CALLS).group_by("trace").len().collect()
    assert 0 < len(half) < len(whole) == 40
    assert half.join(whole, on=["trace", "len"], how="anti").is_empty()


def test_everything_is_kept_of_a_small_download(tmp_path: Path) -> None:
    folder = trace_files.write_download(tmp_path / "data", "v2022")
    assert read(folder, tmp_path / "kept", None).sample == 1.0


def test_a_file_whose_rows_are_all_malformed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Node.csv").write_text(trace_files.HEADERS["v2021"]["Node"] + "\nno,number,at,all\n")
    with pytest.raises(ConfigError, match=r"Node.csv: none of its 1 rows"):
        read(tmp_path, tmp_path / "kept")


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    trace_files.write(tmp_path / "data", "Node", trace_files.table("v2021", "Node"), ".csv")
    result = read(tmp_path / "data", tmp_path / "kept")
    assert isinstance(result.table(Table.HOSTS), pl.LazyFrame)
    with pytest.raises(ConfigError, match="no file of calls"):
        result.table(Table.CALLS)
