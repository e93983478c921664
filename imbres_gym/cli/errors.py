"""What the commands have in common: one clear message and an exit code instead of a traceback."""

from __future__ import annotations

import contextlib
import errno
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import typer

CANNOT_GO_ON = 1
"""Exit code: the disk is full or was made read-only, or the Ray cluster is gone."""

WRONG_INPUT = 2
"""Exit code: the command line or a configuration file is wrong."""

INTERRUPTED = 130
"""Exit code: Ctrl-C (128 + SIGINT)."""


_NO_MORE_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


@contextlib.contextmanager
def clear_errors(on_interrupt: str) -> Iterator[None]:
    """Turn wrong input, a full disk, a lost cluster and Ctrl-C into a message on standard error and an exit code.

    Args:
        on_interrupt: what to tell the user when the command ends before its work does.

    Raises:
        typer.Exit: with `WRONG_INPUT`, `CANNOT_GO_ON` or `INTERRUPTED`.
        RuntimeError: something, most likely the agent, called `sys.exit`, which is no success.
    """
    from imbres_gym.config import ConfigError
    from imbres_gym.evaluation.executor import ClusterLost

    try:
        yield
    except ConfigError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    except ClusterLost as error:
        _stop(f"Error: {error}. {on_interrupt}", error)
    except OSError as error:
        from imbres_gym.evaluation.storage import CannotWrite

        if not isinstance(error, CannotWrite) and error.errno not in _NO_MORE_WRITING:
            raise  # not expected: its traceback says more
        _stop(f"Error: cannot write the results: {error}. {on_interrupt}", error)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise  # rich ends the program where nobody reads on, as in `| head`
        raise RuntimeError(f"something ended the program with exit code {error.code}") from error
    except KeyboardInterrupt:
        typer.secho(f"\nInterrupted. {on_interrupt}", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _stop(message: str, error: Exception) -> NoReturn:
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(CANNOT_GO_ON) from error


def resume_command() -> str:
    """The command line that goes on with what this one has begun."""
    program = Path(sys.argv[0]).name
    start = ["python", "-m", "imbres_gym"] if program == "__main__.py" else [program]
    return shlex.join([*start, *(word for word in sys.argv[1:] if word != "--resume"), "--resume"])


def duration_seconds(text: str | None, option: str, may_be_zero: bool = False) -> float | None:
    """Seconds of "90s", "30m" or "1h"; None stays None.

    Raises:
        ConfigError: not a duration.
    """
    from imbres_gym.config import ConfigError
    from imbres_gym.scenario import parse_duration

    if text is None:
        return None
    if may_be_zero and text.strip() in {"0", "0s", "0m", "0h"}:
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}") from None
