"""Each step says what it does and how long it took; a command that fails says what it printed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


class BedError(Exception):
    """The bed cannot go on; the message says what a person can do."""


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Print what is being done, and the seconds it took."""
    began = time.monotonic()
    print(f"{text} ...", flush=True)
    try:
        yield
    except BaseException:
        print(f"{text}: FAILED after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        raise
    print(f"{text}: {time.monotonic() - began:.1f} s", flush=True)


def call(
    command: Sequence[str | Path],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_s: float | None = None,
) -> str:
    """Run a command and return its standard output.

    Raises:
        BedError: it did not end with 0, or not in time; the message holds the end of what it printed.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=timeout_s)
    except FileNotFoundError:
        raise BedError(f"{words[0]}: not installed") from None
    except subprocess.TimeoutExpired:
        raise BedError(f"{' '.join(words)}: no end after {timeout_s:g} s") from None
    if done.returncode != 0:
        raise BedError(f"{' '.join(words)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:].strip()}")
    return done.stdout


def wait_until(ready: Callable[[], bool], what: str, timeout_s: float, pause_s: float = 0.2) -> None:
    """Ask again and again, with a pause between, until `ready` says yes.

    Raises:
        BedError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise BedError(f"{what}: not after {timeout_s:g} s")
        time.sleep(pause_s)
