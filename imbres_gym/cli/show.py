"""`imbres-gym show`: an application's call trees and load, a scenario resolved, an agent's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.tree import Tree

    from imbres_gym.application import Application, Call
    from imbres_gym.config import StrictModel
    from imbres_gym.scenario import Scenario


def show(
    name: Annotated[str, typer.Argument(help="Name or YAML file of an application, a scenario or an agent.")],
    workload: Annotated[
        float | None,
        typer.Option(min=0.0, help="Requests/s of the expected load.  [default: the scenario's, or 1000]"),
    ] = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print it whole, defaults included, as YAML.")] = False,
) -> None:
    """Show an application (call trees, expected load), a scenario (resolved) or an agent."""
    with clear_errors("Nothing was changed."):
        from rich.console import Console

        from imbres_gym.agent import load_agent_config
        from imbres_gym.application import load_application
        from imbres_gym.scenario import load_scenario

        console = Console(highlight=False)
        kind = _kind_of(name)
        if kind == "applications":
            application = load_application(name)
            rate = 1000.0 if workload is None else workload
            _print_yaml(application) if yaml else _show_application(application, rate, console)
        elif kind == "scenarios":
            scenario = load_scenario(name)
            _print_yaml(scenario) if yaml else _show_scenario(scenario, workload, console)
        else:
            _print_yaml(load_agent_config(name))


def _kind_of(name: str) -> str:
    """Which folder of `configs/` a name belongs to, or what a file describes, by its keys."""
    from imbres_gym.config import ConfigError, available, find_config, nearest, read_yaml

    kinds = ("applications", "scenarios", "agents")
    if Path(name).suffix in {".yaml", ".yml"}:
        keys = read_yaml(find_config("scenarios", name)).keys()
        return "applications" if "request_classes" in keys else "scenarios" if "application" in keys else "agents"
    for kind in kinds:
        if name in available(kind):
            return kind
    known = [each for kind in kinds for each in available(kind)]
    raise ConfigError(f"there is no application, scenario or agent {name!r}; {nearest(name, known)}")


def _print_yaml(model: StrictModel) -> None:
    import yaml

    typer.echo(yaml.safe_dump(model.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True))


def _show_application(application: Application, workload_rps: float, console: Console) -> None:
    console.print(f"[bold]{application.name}[/bold]  {application.description}")
    console.print(f"[dim]source: {application.source}[/dim]\n")
    for label, request in application.request_classes.items():
        latency = unloaded_ms(application, request.tree) + application.hop_ms
        title = f"[bold]{label}[/bold]  {request.share:.1%} of the requests, about {latency:.1f} ms without load"
        console.print(call_tree(application, request.tree, title))
        console.print()
    console.print(load_table(application, workload_rps))


def call_tree(application: Application, call: Call, title: str) -> Tree:
    """A call tree for the terminal: own CPU of each operation, latency of each store call."""
    from rich.tree import Tree

    tree = Tree(title)
    _add_call(application, call, tree)
    return tree


def _add_call(application: Application, call: Call, parent: Tree) -> None:
    times = f" [yellow]x {call.repeat}[/yellow]" if call.repeat > 1 else ""
    chance = f" [yellow]{call.probability:.0%}[/yellow]" if call.probability < 1.0 else ""
    if call.target in application.stores:
        latency = application.stores[call.target].operations[call.operation]
        parent.add(f"[dim]{call.target}/{call.operation}  {latency:g} ms[/dim]{times}{chance}")
        return
    cpu_ms = application.microservices[call.target].operations[call.operation].cpu_ms
    node = parent.add(f"[cyan]{call.target}[/cyan]/{call.operation}  {cpu_ms:g} ms CPU{times}{chance}")
    for stage in call.stages:
        # Calls one after another are simply listed; a stage of several is marked.
        branch = node if len(stage) == 1 else node.add("[magenta]in parallel[/magenta]")
        for child in stage:
            _add_call(application, child, branch)


def unloaded_ms(application: Application, call: Call) -> float:
    """Mean latency of one call without load or interference, seen by the callee [ms].

    Own CPU inside the span, then per stage the longest child with its RPC overhead, repeated and weighted by its
    probability. The longest mean stands for the mean of the longest, so that parallel stages come out a little short.
    """
    if call.target in application.stores:
        return application.stores[call.target].operations[call.operation]
    operation = application.microservices[call.target].operations[call.operation]
    latency = operation.cpu_ms * application.span_share
    for stage in call.stages:
        latency += max((_child_ms(application, child) for child in stage), default=0.0)
    return latency


def _child_ms(application: Application, child: Call) -> float:
    hop_ms = 0.0 if child.target in application.stores else application.hop_ms
    return child.repeat * child.probability * (hop_ms + unloaded_ms(application, child))


def load_table(application: Application, workload_rps: float, replicas: dict[str, int] | None = None) -> Table:
    """Expected load of each microservice at a workload, and the containers that hold it at 50 % CPU (or `replicas`)."""
    import math

    from rich import box
    from rich.table import Table

    calls, demand = application.calls_per_request(), application.cpu_ms_per_request()
    table = Table(box=box.SIMPLE_HEAD, title=f"expected load at {workload_rps:g} requests/s", pad_edge=False)
    table.title_justify = "left"
    table.add_column("microservice", no_wrap=True)
    last = "con-\ntainers\nat 50 %" if replicas is None else "con-\ntainers\nat start"
    for title in ("calls per\nrequest", "calls/s", "CPU ms per\nrequest", "cores", "quota", last):
        table.add_column(title, justify="right", overflow="fold")
    total_cores, total = 0.0, 0
    for name in application.microservice_names:
        quota, idle = application.cores_of(name), application.microservices[name].idle_cores
        cores = workload_rps * demand[name] / 1000.0
        usable = max(0.5 * quota - idle, 0.05 * quota)
        count = max(1, math.ceil(cores / usable - 1e-9)) if replicas is None else replicas[name]
        total_cores, total = total_cores + cores, total + count
        table.add_row(
            name,
            f"{calls[name]:.2f}",
            f"{workload_rps * calls[name]:.0f}",
            f"{demand[name]:.2f}",
            f"{cores:.2f}",
            f"{quota:g}",
            f"{count}",
        )
    table.add_section()
    table.add_row(
        "[bold]all[/bold]", "", "", f"{sum(demand.values()):.2f}", f"{total_cores:.2f}", "", f"[bold]{total}[/bold]"
    )
    return table


def _show_scenario(scenario: Scenario, workload_rps: float | None, console: Console) -> None:
    from rich import box
    from rich.table import Table

    rate = scenario.workload.rate(0.0)
    console.print(f"[bold]{scenario.name}[/bold]  {scenario.description}\n")
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column()
    hosts = scenario.hosts
    facts.add_row("application", scenario.application.name)
    facts.add_row("hosts", f"{hosts.count} x {hosts.cores:g} cores, {hosts.memory_mb:g} MB")
    facts.add_row("workload", f"{scenario.workload.kind}, {rate:g} requests/s at the start")
    facts.add_row("SLA", f"p95 of every request class <= {scenario.sla_ms:g} ms")
    facts.add_row("episode", f"{scenario.duration:g} s; engine {scenario.engine}")
    control_s, scaling_s = scenario.control_interval_s, scenario.scaling_interval_s
    facts.add_row("decisions", f"every {control_s:g} s; replicas every {scaling_s:g} s")
    facts.add_row("connections", f"budget of {scenario.connections_per_container} per downstream container")
    console.print(facts)
    levels = Table(box=box.SIMPLE_HEAD, title=f"{scenario.interference.kind} interference", title_justify="left")
    for title in ("host", "CPU", "memory bandwidth", "network", "LLC"):
        levels.add_column(title, justify="right")
    for host in range(hosts.count):
        level = scenario.interference.levels[host % len(scenario.interference.levels)]
        levels.add_row(str(host), *(f"{value:.0%}" for value in level.as_row()))
    console.print(levels)
    replicas = scenario.replicas_at_start() if workload_rps is None else None
    console.print(load_table(scenario.application, rate if workload_rps is None else workload_rps, replicas))
    console.print(f"[dim]imbres-gym show {scenario.name} --yaml prints every value, defaults included.[/dim]")
