"""A wrong time of day for one program: a library for LD_PRELOAD, which leaves all other clocks as they are."""

from __future__ import annotations

from pathlib import Path

from scripts.testbed.packages import COMPILE, install
from scripts.testbed.steps import call

SOURCE = Path(__file__).with_name("skewed_clock.c")


def build(file: Path, offset_s: int) -> Path:
    """Compile the library; a program that loads it sees the time of day shifted by so many seconds."""
    install(COMPILE)
    call(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", f"-DOFFSET_S={offset_s}", "-o", file, SOURCE])
    return file
