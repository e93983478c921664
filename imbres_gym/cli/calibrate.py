"""`imbres-gym calibrate`: fit an application to measurements of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbres_gym.cli.errors import clear_errors


def calibrate(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV file: microservice, load_rps (calls/s of one container), cpu (utilisation of its host, 0-1), "
            "mean_ms and p95_ms (own latency, one or both); optionally memory_bandwidth, network, llc."
        ),
    ],
    application: Annotated[str, typer.Option(help="Name or YAML file of the application that was measured.")],
    out: Annotated[Path, typer.Option(help="YAML file for the fitted application; a scenario can name it.")],
) -> None:
    """Fit demand and sensitivity of microservices to measured latencies, and report the error of each."""
    with clear_errors("Nothing was written."):
        from rich.console import Console
        from rich.table import Table

        from imbres_gym.application import load_application
        from imbres_gym.calibration import fit, read_measurements, save_application
        from imbres_gym.cli.notes import first_use_note
        from imbres_gym.config import ConfigError

        if out.exists():
            raise ConfigError(f"{out} exists already; choose another --out, or delete it")
        console = Console(highlight=False)
        app = load_application(application)
        measured = read_measurements(file, app)
        if note := first_use_note():
            console.print(note)
        fitted, fits = fit(app, measured)
        table = Table("microservice", "latencies", "demand", "CPU sensitivity", "error before", "error after")
        for one in fits:
            demand, sensitivity = f"x {one.demand:.2f}", f"{one.sensitivity:.2f}"
            before, after = f"x {one.before:.2f}", f"x {one.after:.2f}"
            table.add_row(one.microservice, str(one.points), demand, sensitivity, before, after)
        console.print(table)
        console.print("Errors are the median factor between predicted and measured latency; x 1.00 is none.")
        for one in fits:
            if one.doubt:
                console.print(f"[yellow]doubtful:[/yellow] {one.microservice}: {one.doubt}", soft_wrap=True)
        missing = [name for name in app.microservices if name not in measured]
        if missing:
            console.print(f"Not measured, and so as before: {', '.join(missing)}.")
        save_application(fitted, file, out)
        console.print(f"\n  application  {out}", soft_wrap=True)
