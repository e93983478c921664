"""`imbres-gym oracle`: search the least containers that meet the SLA, for the agent of that name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.errors import clear_errors
from imbres_gym.cli.progress import SOME_FAILED

if TYPE_CHECKING:
    from imbres_gym.evaluation.executor import WorkerLost
    from imbres_gym.oracle.record import OracleRecord
    from imbres_gym.oracle.run import SearchFailure
    from imbres_gym.scenario import Scenario


def oracle(
    scenarios: Annotated[list[str], typer.Argument(metavar="SCENARIO...", help="Names or YAML files of scenarios.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the records.  [default: configs/oracles, where the agent looks]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Searches that run at once.  [default: the number of cores]")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="A record (name or file) to begin at where it is feasible, say of the same scenario with a stricter "
            "SLA: quicker than from nothing."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep records of the same scenario and version.")] = False,
) -> None:
    """Search the simulator for the fewest containers that meet the SLA, with ideal load shares.

    A search takes minutes. It is a heuristic: the true minimum lies between the lower bound and what is found. The
    scenario's workload and interference must be constant. Each record is written as soon as it is found.
    """
    with clear_errors("Finished records are kept; the same command with --resume goes on."):
        from imbres_gym.evaluation.executor import use_one_thread

        use_one_thread()
        from imbres_gym.artifacts import find_artifact, scenario_label
        from imbres_gym.config import config_root
        from imbres_gym.evaluation.storage import require_writable
        from imbres_gym.oracle.record import load_record
        from imbres_gym.oracle.truth import require_constant
        from imbres_gym.scenario import load_scenario

        folder = out or config_root() / "oracles"
        begin = None if start is None else load_record(find_artifact("oracle", start))
        targets: dict[Path, Scenario] = {}
        for name in scenarios:
            scenario = load_scenario(name)
            require_constant(scenario)
            if begin is not None:
                begin.require_shape(scenario)
            path = folder / f"{scenario_label(scenario.name)}.json"
            if not (resume and _is_current(path, scenario)):
                targets[path] = scenario
        require_writable(folder)
        failed = _search_all(targets, workers, begin)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _is_current(path: Path, scenario: Scenario) -> bool:
    """Whether the record is there and of this scenario; says so."""
    from imbres_gym.config import ConfigError
    from imbres_gym.oracle.record import load_record

    if not path.exists():
        return False
    try:
        reason = load_record(path).outdated(scenario)
    except ConfigError as error:
        reason = str(error)
    typer.echo(f"{path}: searched again: {reason}" if reason else f"{path}: kept")
    return not reason


def _search_all(targets: dict[Path, Scenario], workers: int | None, start: OracleRecord | None) -> bool:
    """Search every scenario and write its record; says whether any search failed."""
    from rich.console import Console

    from imbres_gym.cli.notes import first_use_note
    from imbres_gym.evaluation.executor import make_executor
    from imbres_gym.oracle.record import OracleRecord, save_record
    from imbres_gym.oracle.run import attempt

    console = Console(highlight=False)
    if targets and (note := first_use_note()):
        console.print(note)
    paths, failed = list(targets), False
    with console.status(f"searching {len(paths)} scenarios"):
        for index, outcome in make_executor(workers, None).run(partial(attempt, start=start), list(targets.values())):
            console.print(_line(paths[index], outcome), soft_wrap=True, markup=False)
            if isinstance(outcome, OracleRecord):
                save_record(outcome, paths[index])
            else:
                failed = True
    return failed


def _line(path: Path, outcome: OracleRecord | SearchFailure | WorkerLost) -> str:
    from imbres_gym.evaluation.executor import WorkerLost
    from imbres_gym.oracle.run import SearchFailure

    if isinstance(outcome, WorkerLost):
        return f"failed: {path}: its process died {outcome.attempts} times ({outcome.cause})"
    if isinstance(outcome, SearchFailure):
        return f"failed: {outcome.message}\n{outcome.details}".rstrip()
    low, high = outcome.p95_interval_ms
    return (
        f"{outcome.scenario}: {outcome.containers} containers (no fewer than {outcome.lower_bound} can do), p95 "
        f"{outcome.p95_ms:.0f} ms ({low:.0f} to {high:.0f}), {outcome.violated:.0%} of {outcome.windows} windows above "
        f"the SLA; {outcome.simulated_s / 3600.0:.1f} h simulated; {path}"
    )
