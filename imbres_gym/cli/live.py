"""`imbres-gym live`: an agent controls an application on a real Kubernetes cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from imbres_gym.cli.errors import CANNOT_GO_ON, WRONG_INPUT, clear_errors, duration_seconds

Value = TypeVar("Value")

live = typer.Typer(
    name="live",
    short_help="Control an application on a real Kubernetes cluster (docs/live.md).",
    invoke_without_command=True,
)

Config = Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file of the live run.")]
Context = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Context of the kubeconfig file, or in-cluster for the pod's own service account. There is no default.",
    ),
]
Kubeconfig = Annotated[Path | None, typer.Option(metavar="FILE", help="Kubeconfig file.  [default: ~/.kube/config]")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Decide and say so, but change nothing.")]
AgentName = Annotated[
    str | None, typer.Option("--agent", help="Name or YAML file of an agent.  [default: the configuration's]")
]
Duration = Annotated[
    str | None, typer.Option(help="When to end, such as 90s, 30m or 1h.  [default: when it is stopped]")
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the journal and TensorBoard's log.")]


@live.callback()
def run(
    command: typer.Context,
    config: Config = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    dry_run: DryRun = False,
    agent: AgentName = None,
    duration: Duration = None,
    out: Out = None,
) -> None:
    """Run an agent until it is stopped; every decision is one line of JSON, with its reasons.

    At the end the cluster is left as it was found, or as on_exit says. The exit code is 1 if another controller has
    taken over, and 2 if the run was refused before its first action.
    """
    if command.invoked_subcommand is not None:
        if config is not None or context is not None:
            typer.secho("Error: options belong behind the command: live doctor --config FILE", fg="red", err=True)
            raise typer.Exit(WRONG_INPUT)
        return
    with clear_errors("Nothing was changed yet."):
        from imbres_gym.live.config import load_live_config
        from imbres_gym.live.lease import LeadershipLost
        from imbres_gym.live.run import LiveRun, load_agent, run_live

        settings = load_live_config(_required(config, "--config FILE"))
        what = LiveRun(
            config=settings,
            context=_required(context, "--context NAME"),
            kubeconfig=kubeconfig,
            agent=load_agent(agent or settings.agent),
            dry_run=dry_run,
            duration_s=duration_seconds(duration, "--duration"),
            out=out,
        )
        try:
            run_live(what, sys.stdout)
        except LeadershipLost as lost:
            typer.secho(f"Ended: {lost}.", fg="red", err=True)
            raise typer.Exit(CANNOT_GO_ON) from None
        except BrokenPipeError:
            _let_go_of_stdout()
        except KeyboardInterrupt:
            said = 'The line "stop" of the journal says how the cluster was left; without one nothing was changed.'
            typer.secho(f"Stopped. {said}", err=True)


@live.command()
def doctor(config: Config = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Check everything that a run needs, and say what to fix; the exit code is 1 if something has to be.

    Nothing is changed but this: to hear from the node agents, an empty connection plan is written for each node that
    has none, and deleted again.
    """
    with clear_errors("The checks are not complete."):
        from imbres_gym.live.config import load_live_config
        from imbres_gym.live.doctor import examine

        settings = load_live_config(_required(config, "--config FILE"))
        failed = 0
        try:
            for check in examine(settings, _required(context, "--context NAME"), kubeconfig):
                failed += not check.ok
                typer.echo(check.line())
            typer.echo("Ready to run." if failed == 0 else f"{failed} to fix.")
        except BrokenPipeError:
            _let_go_of_stdout()
        raise typer.Exit(CANNOT_GO_ON if failed else 0)


def _required(value: Value | None, option: str) -> Value:
    from imbres_gym.config import ConfigError

    if value is None:
        raise ConfigError(f"missing: {option}")
    return value


def _let_go_of_stdout() -> None:
    """Whoever read the output has gone; so that Python does not fail at its last flush, it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
