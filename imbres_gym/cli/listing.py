"""`imbres-gym list`: what is there."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors

if TYPE_CHECKING:
    from rich.console import Console


class Kind(StrEnum):
    """What can be listed."""

    APPLICATIONS = "applications"
    SCENARIOS = "scenarios"
    AGENTS = "agents"
    ENVIRONMENTS = "environments"


def list_everything(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; everything if left out.")] = None,
) -> None:
    """List applications, scenarios, agents and environments."""
    with clear_errors("Nothing was changed."):
        from rich.console import Console

        console = Console(highlight=False)
        for each in [kind] if kind else Kind:
            _list(each, console)
        console.print("[dim]imbres-gym show NAME says more about an application, a scenario or an agent.[/dim]")


def _list(kind: Kind, console: Console) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    columns, describe = _TABLES[kind]
    table = Table(*columns, box=box.SIMPLE_HEAD, title=f"[bold]{kind.value}[/bold]", title_justify="left")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for name in _names(kind):
        cells = _describe(describe, name, len(columns))
        table.add_row(f"[bold]{escape(name)}[/bold]", *(escape(cell) for cell in cells))
    console.print(table)


def _names(kind: Kind) -> list[str]:
    if kind is not Kind.ENVIRONMENTS:
        from imbres_gym.config import available

        return available(kind.value)
    import importlib

    import gymnasium as gym

    # Importing it registers the ids; by name, because this package must not depend on `envs`.
    importlib.import_module("envs")
    return sorted(name for name in gym.registry if name.startswith("imbres_gym/"))


def _describe(describe: Callable[[str], list[str]], name: str, columns: int) -> list[str]:
    """The cells after the name; one broken file must not hide the others."""
    from imbres_gym.config import ConfigError

    try:
        return describe(name)
    except ConfigError as error:
        return [*[""] * (columns - 2), f"not valid: {error}"]


def _application(name: str) -> list[str]:
    from imbres_gym.application import load_application

    application = load_application(name)
    return [str(len(application.microservices)), str(len(application.request_classes)), application.description]


def _scenario(name: str) -> list[str]:
    from imbres_gym.scenario import load_scenario

    scenario = load_scenario(name)
    return [
        f"{scenario.workload.rate(0.0):g}",
        f"{scenario.sla_ms:g}",
        scenario.description or f"{scenario.interference.kind} interference",
    ]


def _agent(name: str) -> list[str]:
    from imbres_gym.agent import load_agent_config

    return [load_agent_config(name).description]


def _environment(name: str) -> list[str]:
    import gymnasium as gym

    from imbres_gym.policy import load_object

    entry = gym.spec(name).entry_point
    environment = load_object(entry, name) if isinstance(entry, str) else entry
    return [(environment.__doc__ or "").strip().partition("\n")[0]]


_TABLES: dict[Kind, tuple[tuple[str, ...], Callable[[str], list[str]]]] = {
    Kind.APPLICATIONS: (("name", "microservices", "classes", "description"), _application),
    Kind.SCENARIOS: (("name", "requests/s", "SLA ms", "description"), _scenario),
    Kind.AGENTS: (("name", "description"), _agent),
    Kind.ENVIRONMENTS: (("name", "description"), _environment),
}
