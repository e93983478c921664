"""`imbres-gym load`: open-loop load on a deployed application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbres_gym.cli.deploy import Kubeconfig
from imbres_gym.cli.errors import clear_errors, duration_seconds

if TYPE_CHECKING:
    from imbres_gym.live.load import Request

EVERY_S = 5.0
"""Length of a reported interval: one control interval."""


def load(
    application: Annotated[str, typer.Argument(help="Name or YAML file of an application.")],
    rps: Annotated[float, typer.Option(min=0.001, help="Mean requests per second.")],
    duration: Annotated[str, typer.Option(help="How long, such as 90s or 10m.")],
    context: Annotated[
        str | None, typer.Option(help="Context of a cluster to whose cluster IPs this machine has a route.")
    ] = None,
    kubeconfig: Kubeconfig = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the application.")] = "default",
    url: Annotated[
        str | None, typer.Option(help="Where the entry is, such as http://{microservice}:8080, instead of --context.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the times and request classes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="CSV file for every request: when, class, latency, code.")] = None,
) -> None:
    """Send Poisson load to a deployed application, and say what came back; a failed request counts as the slowest."""
    with clear_errors("What was measured is printed above."):
        import asyncio

        from imbres_gym.application import load_application
        from imbres_gym.config import ConfigError
        from imbres_gym.live import load_addresses, load_report
        from imbres_gym.live.kube import connect
        from imbres_gym.live.load import run_load

        loaded = load_application(application)
        seconds = duration_seconds(duration, "--duration")
        assert seconds is not None
        if (context is None) == (url is None):
            raise ConfigError("say where the application is: either --context or --url")
        if context is not None:
            with connect(context, namespace, kubeconfig) as client:
                hosts = load_addresses.from_cluster(loaded, client, namespace)
        else:
            assert url is not None
            hosts = load_addresses.from_url(loaded, url)
        report = _Report()
        try:
            asyncio.run(run_load(loaded, hosts, rps, seconds, seed, report.add))
        finally:
            report.end()
            for line in load_report.summary(report.requests, loaded.request_classes):
                typer.echo(line)
            if out is not None:
                load_report.write_csv(report.requests, out)


class _Report:
    """Prints a line for each interval that is over; a request belongs to the interval in which it ended."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._shown = 0
        self._end_s = EVERY_S

    def add(self, request: Request) -> None:
        ended_s = request.due_s + request.latency_ms / 1000.0
        while ended_s >= self._end_s:
            self._print()
            self._end_s += EVERY_S
        self.requests.append(request)

    def end(self) -> None:
        if self._shown < len(self.requests):
            self._print()

    def _print(self) -> None:
        from imbres_gym.live import load_report

        typer.echo(f"{self._end_s:6.0f} s  {load_report.line(self.requests[self._shown :])}")
        self._shown = len(self.requests)
