"""`imbres-gym trace`: scenarios from Alibaba's public traces, or generated after their statistics."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors

if TYPE_CHECKING:
    from rich.console import Console

    from imbres_gym.alibaba.digest import Digest

trace = typer.Typer(
    name="trace",
    help="Scenarios from Alibaba's public traces, or generated after their statistics (docs/alibaba.md).",
    no_args_is_help=True,
)

_KEPT = "What is read of the files is kept; the same command goes on."

Download = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="Files of cluster-trace-microservices-v2021 or v2022, at any depth: .tar.gz, .csv.gz or .csv.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for what is kept of each file that was read.  [default: runs/traces/FOLDER]"),
]
Sample = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of the requests whose calls are used.  [default: what makes about 300 MB of text]",
    ),
]


@trace.command()
def summary(folder: Download, cache: Cache = None, sample: Sample = None) -> None:
    """Print statistics of a download, beside those that the generator follows."""
    with clear_errors(_KEPT):
        from rich import box
        from rich.console import Console
        from rich.table import Table as Grid

        console = Console(highlight=False)
        digest = _digest(console, folder, cache, sample)
        from imbres_gym.alibaba.summary import summarise

        grid = Grid("table", "", "here", "generator", box=box.SIMPLE_HEAD)
        previous = None
        for fact in summarise(digest):
            grid.add_row(fact.table if fact.table != previous else "", fact.name, fact.value, fact.known)
            previous = fact.table
        console.print(grid)


@trace.command()
def scenario(
    folder: Download,
    out: Annotated[Path, typer.Option(help="Folder for the scenario.")],
    services: Annotated[int, typer.Option(min=1, help="Services, those with most requests.")] = 10,
    hosts: Annotated[int, typer.Option(min=1, help="Hosts, evenly spaced by their mean utilisation.")] = 20,
    rps: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Mean requests/s of the services together; v2022 needs it.  [default: as recorded]"
        ),
    ] = None,
    cache: Cache = None,
    sample: Sample = None,
) -> None:
    """Turn a download into a scenario: call trees, CPU demands, interference and workload as recorded."""
    with clear_errors(_KEPT):
        from rich.console import Console

        from imbres_gym.alibaba.files import require_new

        require_new(out)
        console = Console(highlight=False)
        digest = _digest(console, folder, cache, sample)
        from imbres_gym.alibaba.recorded import write_recorded

        heading = f"Made of cluster-trace-microservices-{digest.version} (docs/alibaba.md) by\n{_command()}"
        written = write_recorded(digest, out, services, hosts, rps, heading)
        found = written.services
        console.print(
            f"{len(found.services)} of {found.all_services} services, {written.microservices} microservices (CPU "
            f"demand of {written.measured} from the trace), {written.hosts} hosts, {written.rps:.1f} requests/s, "
            f"recorded: {written.minutes_of_calls} min of calls, {written.minutes_of_hosts} min of hosts\n"
            f"{found.unusable} of {found.looked_at} requests had no entry that is known, or another one\n\n"
            f"  scenario     {written.scenario}",
            soft_wrap=True,
        )


@trace.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder for the scenario, or a .yaml file that is to hold all of it.")],
    microservices: Annotated[int, typer.Option(min=1, help="Microservices.")] = 40,
    hosts: Annotated[int, typer.Option(min=1, help="Hosts.")] = 20,
    containers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Containers at the start.  [default: 200 for each microservice, at most 75 for each host]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenario.")] = 0,
) -> None:
    """Generate an application and hosts after Alibaba's statistics: up to 1,500 microservices on thousands of hosts."""
    with clear_errors("Nothing was written."):
        from imbres_gym.alibaba.files import require_new

        require_new(out)
        from imbres_gym.alibaba.generated import write_generated
        from imbres_gym.alibaba.generator import generate as generate_cluster

        cluster = generate_cluster(microservices, hosts, seed, containers)
        path = write_generated(cluster, out, _command())
        typer.echo(
            f"{microservices} microservices, {len(cluster.shared.trees)} services, {len(cluster.shared.pairs())} "
            f"pairs, {cluster.sizes.containers.sum()} containers, {hosts} hosts, {cluster.sizes.rps:.0f} requests/s\n\n"
            f"  scenario     {path}"
        )


def _digest(console: Console, folder: Path, cache: Path | None, sample: float | None) -> Digest:
    """Read the download with a progress bar, and say what was wrong with it."""
    from imbres_gym.config import ConfigError

    try:
        import polars  # noqa: F401
    except ImportError:
        raise ConfigError("polars is missing; install it with: pip install 'imbres-gym[traces]'") from None
    if sample == 0.0:
        raise ConfigError("--sample 0: must be above 0")
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from imbres_gym.alibaba.digest import digest
    from imbres_gym.alibaba.parts import Part, find_parts

    kept = cache or Path("runs/traces") / folder.resolve().name
    sizes = {part.file: part.size for part in find_parts(folder)}
    done = dict.fromkeys(sizes, 0)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("reading", total=sum(sizes.values()))

        def on_progress(part: Part, position: int, finished: bool) -> None:
            done[part.file] = sizes[part.file] if finished else position
            progress.update(bar, completed=sum(done.values()), description=part.file.name)

        result = digest(folder, kept, sample, on_progress)
    for table, counts in result.counts.items():
        wrong = f"; [yellow]{counts.malformed} malformed and left out[/yellow]" if counts.malformed else ""
        mended = f"; {counts.repaired} with two rpc_ids, mended" if counts.repaired else ""
        console.print(f"{table}: {counts.rows} rows in {counts.files} files{wrong}{mended}", soft_wrap=True)
    return result


def _command() -> str:
    """The command line, as a person would type it."""
    return shlex.join(["imbres-gym", *sys.argv[1:]])
