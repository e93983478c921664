"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Episodes that run at once.  [default: the number of cores, or of Ray's CPUs]"),
]

RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="local|HOST:PORT",
        help="Run on Ray: started on this machine for this run, or a cluster that this machine is a node of.  "
        "[default: processes, without Ray]",
    ),
]
