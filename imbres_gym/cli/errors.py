"""What the commands have in common: one clear message and an exit code instead of a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

WRONG_INPUT = 2
"""Exit code: the command line or a configuration file is wrong."""

INTERRUPTED = 130
"""Exit code: Ctrl-C (128 + SIGINT)."""


@contextlib.contextmanager
def clear_errors(on_interrupt: str) -> Iterator[None]:
    """Turn wrong input and Ctrl-C into a message on standard error and an exit code.

    Args:
        on_interrupt: what to tell the user after Ctrl-C.

    Raises:
        typer.Exit: with `WRONG_INPUT` or `INTERRUPTED`.
    """
    from imbres_gym.config import ConfigError

    try:
        yield
    except ConfigError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    except KeyboardInterrupt:
        typer.secho(f"\nInterrupted. {on_interrupt}", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED) from None


def duration_seconds(text: str | None, option: str) -> float | None:
    """Seconds of "90s", "30m" or "1h"; None stays None.

    Raises:
        ConfigError: not a duration.
    """
    from imbres_gym.config import ConfigError
    from imbres_gym.scenario import parse_duration

    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}") from None
