"""`imbres-gym compare`: several agents in several scenarios, with believable intervals."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors, duration_seconds, resume_command
from imbres_gym.cli.options import RayAddress, Workers
from imbres_gym.cli.progress import SOME_FAILED, run_with_progress

if TYPE_CHECKING:
    from rich.console import Console

    from imbres_gym.evaluation.comparison import Written
    from imbres_gym.evaluation.executor import Executor
    from imbres_gym.evaluation.task import EpisodeTask


def compare(
    scenarios: Annotated[list[str], typer.Argument(metavar="SCENARIO...", help="Names or YAML files of scenarios.")],
    agents: Annotated[str, typer.Option(help="Names or YAML files of agents, separated by commas.")] = "imbres,hpa",
    seeds: Annotated[int, typer.Option(min=1, help="Episodes per scenario and agent.")] = 5,
    duration: Annotated[
        str | None, typer.Option(help="Length of an episode, such as 90s, 30m or 1h.  [default: the scenario's]")
    ] = None,
    warmup: Annotated[
        str | None,
        typer.Option(help="Start that the summary leaves out.  [default: 5m, at most a quarter of the episode]"),
    ] = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Agent that the others are held against over several scenarios.  [default: the first]"),
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine of the simulated cluster.")] = "events",
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("runs/compare"),
    resume: Annotated[bool, typer.Option("--resume", help="Keep finished episodes of the same comparison.")] = False,
) -> None:
    """Run every agent in every scenario over several seeds, and say how they compare.

    Each episode is written as soon as it is finished; Ctrl-C loses none of them. The same command gives the same
    numbers again, whatever the number of workers; only the decision time depends on the machine.
    """
    with clear_errors(f"Finished episodes are in {out / 'episodes'}. Go on with:\n  {resume_command()}"):
        from imbres_gym.evaluation.executor import make_executor, use_one_thread

        use_one_thread()
        from imbres_gym.evaluation.comparison import prepare_folder
        from imbres_gym.evaluation.task import plan_tasks

        tasks = plan_tasks(
            scenarios,
            _split(agents),
            seeds,
            duration_s=duration_seconds(duration, "--duration"),
            warmup_s=duration_seconds(warmup, "--warmup", may_be_zero=True),
            engine=engine,
        )
        against = _reference(reference, _split(agents), list(dict.fromkeys(task.agent_name for task in tasks)))
        executor = make_executor(workers, ray_address)
        prepare_folder(out, resume)
        example = shlex.join(["imbres-gym", "run", _split(agents)[0], scenarios[0]])
        failed = _run_and_report(tasks, executor, out, resume, against, example)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _split(names: str) -> list[str]:
    from imbres_gym.config import ConfigError

    split = [name.strip() for name in names.split(",")]
    if not all(split):
        raise ConfigError(f"--agents: {names!r} has an empty name; write for example imbres,hpa")
    return split


def _reference(given: str | None, agents: list[str], labels: list[str]) -> str:
    """The name that tables show for the reference, which may be given as its YAML file, too."""
    from imbres_gym.config import ConfigError, nearest

    names = {**dict(zip(agents, labels, strict=True)), **{label: label for label in labels}}
    if given is None:
        return labels[0]
    if given not in names:
        raise ConfigError(f"--reference: {given!r} is none of the agents; {nearest(given, list(names))}")
    return names[given]


def _run_and_report(
    tasks: list[EpisodeTask], executor: Executor, out: Path, resume: bool, reference: str, example: str
) -> bool:
    """Run what is missing with a progress bar, then write and print the summary; says whether anything failed."""
    from rich.console import Console

    from imbres_gym.evaluation.comparison import write_outputs

    console = Console(highlight=False)
    results, failures = run_with_progress(console, tasks, out, executor, resume=resume)
    if results:
        with console.status("writing figures and TensorBoard logs"):
            written = write_outputs(out, results, failures, reference=reference)
        _conclude(console, written, out, example)
    if failures:
        console.print(f"[red]{len(failures)} of {len(tasks)} episodes failed;[/red] see {out / 'failures'}")
    return bool(failures)


def _conclude(console: Console, written: Written, out: Path, example: str) -> None:
    """The table, where everything is, and what to look at next."""
    from imbres_gym.evaluation.aggregate_report import rich_aggregate
    from imbres_gym.evaluation.report import rich_tables

    for table in rich_tables(written.rows):
        console.print(table)
    repeated = any(len(row.seeds) > 1 for row in written.rows)
    shown = "Means over the seeds ± 95 % interval" if repeated else "One seed, so without intervals"
    console.print(
        f"{shown}, after the warm-up. p50, p95 and p99 are of all requests together; a window is above the SLA if the "
        "p95 of any request class (of 20 requests or more) is. Fewer containers at few violations is better.\n"
    )
    if written.aggregated is not None:
        console.print(rich_aggregate(written.aggregated))
        console.print(
            "Inter-quartile mean of containers relative to another agent's, means of violations, and the probability "
            f"P that a run is better than one of {written.aggregated.reference}; with 95 % stratified-bootstrap "
            "intervals, which are too narrow with few seeds.\n"
        )
    lines = [
        f"  summary   {written.summary}, {written.table}",
        f"  figures   {out / 'figures'}",
        f"  episodes  {out / 'episodes'}",
        "\nNext:",
    ]
    lines += [f"  load, capacity and SLA over time   {figure}" for figure in written.figures[:1]]
    lines.append(f"  every curve                        tensorboard --logdir {written.tensorboard}")
    lines.append(f"  one agent, live                    {example}")
    console.print("\n".join(lines), soft_wrap=True, markup=False)
