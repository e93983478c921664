"""The one door: `imbres-gym compare`, `run`, `train`, `replay`, `profile`, `oracle`, `reproduce`, `trace` and the like.

Nothing heavy is imported here: each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from imbres_gym import __version__
from imbres_gym.cli.calibrate import calibrate
from imbres_gym.cli.compare import compare
from imbres_gym.cli.deploy import deploy
from imbres_gym.cli.listing import list_everything
from imbres_gym.cli.live import live
from imbres_gym.cli.load import load
from imbres_gym.cli.node_agent import node_agent
from imbres_gym.cli.oracle import oracle
from imbres_gym.cli.profile import profile
from imbres_gym.cli.replay import replay
from imbres_gym.cli.reproduce import reproduce
from imbres_gym.cli.run import run
from imbres_gym.cli.show import show
from imbres_gym.cli.trace import trace
from imbres_gym.cli.train import train

app = typer.Typer(
    name="imbres-gym",
    help="A microservice cluster as Gymnasium environments, with the Imbres agent and its rivals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(compare)
app.command()(run)
app.command()(profile)
app.command()(calibrate)
app.command("list")(list_everything)
app.command()(show)
app.command()(oracle)
app.command()(reproduce)
app.command()(replay)
app.command()(deploy)
app.command()(load)
app.command()(train)
app.command()(node_agent)
app.add_typer(trace)
app.add_typer(live)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imbres-gym {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options before a command."""


def main() -> None:
    """Run the command that the command line names."""
    app()
