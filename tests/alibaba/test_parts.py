"""Files are recognised, read in blocks whatever their packing, and nothing malformed gets in or goes uncounted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import trace_files
from polars.testing import assert_frame_equal

from imbres_gym.alibaba import parts
from imbres_gym.alibaba.parts import find_parts, read_blocks
from imbres_gym.alibaba.schemas import Table
from imbres_gym.config import ConfigError

SUFFIXES = (".csv", ".csv.gz", ".tar.gz")


def read_all(file: Path) -> tuple[pl.DataFrame, int, int, int]:
    (part,) = find_parts(file)
    blocks = list(read_blocks(part))
    frame = pl.concat([block.frame for block in blocks])
    return frame, *(sum(getattr(block, name) for block in blocks) for name in ("rows", "malformed", "repaired"))


@pytest.mark.parametrize("version", ["v2021", "v2022"])
def test_a_download_is_recognised_whatever_its_packing(tmp_path: Path, version: str) -> None:
    frames: dict[Table, pl.DataFrame] = {}
    for suffix in SUFFIXES:
        folder = trace_files.write_download(tmp_path / suffix[1:], version, suffix, call_files=1)
        found = find_parts(folder)
        assert [part.schema.table for part in found] == list(Table)
        for part in found:
            assert part.schema.version in {version, None}
            frame = pl.concat([block.frame for block in read_blocks(part)])
            assert_frame_equal(frames.setdefault(part.schema.table, frame), frame)


def test_parts_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        trace_files.write(tmp_path, f"MSCallGraph_{number}", trace_files.table("v2021", "MSCallGraph"), ".csv")
    assert [part.file.name for part in find_parts(tmp_path)] == [f"MSCallGraph_{n}.csv" for n in (1, 9, 10)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_blocks_do_not_change_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    file = trace_files.write(tmp_path, "CallGraph_0", trace_files.table("v2022", "MSCallGraph"), suffix)
    whole = read_all(file)
    monkeypatch.setattr(parts, "BLOCK_BYTES", 100)  # about one row
    in_pieces = read_all(file)
    assert_frame_equal(whole[0], in_pieces[0])
    assert whole[1:] == in_pieces[1:] == (len(whole[0]), 0, 0)


def test_malformed_rows_are_counted_and_two_rpc_ids_are_mended(tmp_path: Path) -> None:
    lines = [
        trace_files.HEADERS["v2022"]["MSCallGraph"],
        # Two rpc_ids without quotes, as in alibaba/clusterdata#205, and with quotes, as some users mend the files.
        "175636,T_1,S_9,0.1.1.1,0.1.1.1,rpc,UNKNOWN,UNKNOWN_POD_6,f,MS_56,MS_56_POD_0,3.0",
        '175636,T_1,S_9,"0.1.1.2,0.1.1.2",rpc,UNKNOWN,UNKNOWN_POD_6,f,MS_56,MS_56_POD_0,4.0',
        "1,T_1,S_9,0.1,http,USER,USER_POD,f,MS_5,MS_5_POD_0,-2.0",
        "1,T_1,S_9,0.1",  # cut off
        "x,T_1,S_9,0.1,http,USER,USER_POD,f,MS_5,MS_5_POD_0,-2.0",  # no time
        "1,T_1,S_9,0.1,http,USER,USER_POD,f,MS_5,MS_5_POD_0,nan",  # no response time
        "1,,S_9,0.1,http,USER,USER_POD,f,MS_5,MS_5_POD_0,1.0",  # no trace
        "1,T_1,S_9,0.1,http,USER,USER_POD,f,MS_5,MS_5_POD_0,1,2,3,4",  # too many cells
    ]
    file = trace_files.write(tmp_path, "CallGraph_0", "\n".join(lines), ".csv")  # no newline at the end
    frame, rows, malformed, repaired = read_all(file)
    assert (rows, malformed, repaired) == (8, 5, 2)
    assert frame["rpc"].to_list() == ["0.1.1.1", "0.1.1.2", "0.1"]
    assert frame["downstream"].to_list() == ["MS_56", "MS_56", "MS_5"]
    assert frame["rt"].to_list() == [3.0, 4.0, -2.0]


def test_text_that_is_no_utf8_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "Node.csv"
    file.write_bytes(b"timestamp,nodeid,node_cpu_usage,node_memory_usage\n0,a\xff,0.5,0.5\n\xff\xfe,b,0.5,0.5\n")
    frame, rows, malformed, _ = read_all(file)
    assert (rows, malformed, frame["cpu"].to_list()) == (2, 1, [0.5])


def test_a_wrong_file_is_refused_and_told_what_it_looks_like(tmp_path: Path) -> None:
    file = tmp_path / "MSCallGraph_0.csv"
    file.write_text("traceid,timestamp,rpcid,um,rpctype,dm,rt\n")
    with pytest.raises(ConfigError, match=r"MSCallGraph_\*.csv .*v2021, but has no column interface"):
        find_parts(tmp_path)


def test_a_file_without_header_is_told_which_columns_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "MSRTQps_0.csv"
    file.write_text("0,60000,front,front_0,HTTP_MCR,3.0\n")
    with pytest.raises(
        ConfigError, match=r"MSRTQps_0.csv.*header is missing.*timestamp,msname,msinstanceid,metric,value"
    ):
        find_parts(tmp_path)


def test_two_versions_in_a_folder_are_refused(tmp_path: Path) -> None:
    trace_files.write_download(tmp_path / "a", "v2021")
    trace_files.write_download(tmp_path / "b", "v2022")
    with pytest.raises(ConfigError, match="files of two traces"):
        find_parts(tmp_path)


@pytest.mark.parametrize("suffix", [".csv.gz", ".tar.gz"])
def test_a_file_that_ends_early_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    file = trace_files.write(tmp_path, "CallGraph_0", trace_files.table("v2022", "MSCallGraph"), suffix)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ConfigError, match=f"CallGraph_0{suffix}: damaged"):
        read_all(file)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_nothing_to_read_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no such|no files of a trace"):
        find_parts(tmp_path / name)
