"""`imbres-gym deploy`: an application file as synthetic microservices on a Kubernetes cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbres_gym.cli.errors import clear_errors, duration_seconds

Context = Annotated[
    str | None,
    typer.Option(
        help="Context of the kubeconfig file, or `in-cluster`; there is no default, so that none is hit. "
        "A dry run needs none."
    ),
]
Kubeconfig = Annotated[Path | None, typer.Option(help="Kubeconfig file.  [default: ~/.kube/config]")]


def deploy(
    application: Annotated[str, typer.Argument(help="Name or YAML file of an application.")],
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    namespace: Annotated[str, typer.Option(help="Namespace; it is made if missing.")] = "default",
    replicas: Annotated[
        list[str] | None,
        typer.Option(metavar="N|NAME=N", help="Replicas of all or of one microservice; may be repeated.  [default: 1]"),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Image of the synthetic microservice.  [default: the test bed's]")
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="Where pods send spans (OTLP/HTTP).  [default: nowhere]")
    ] = None,
    trace_sampling: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the requests with spans.")] = 0.1,
    keep_alive: Annotated[
        bool, typer.Option("--keep-alive", help="Keep connections between microservices; weights act on new ones only.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="Longest wait until all is ready, such as 90s.")] = "3m",
    delete: Annotated[bool, typer.Option("--delete", help="Delete the application's objects instead.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the objects as YAML; the cluster is not asked.")
    ] = False,
) -> None:
    """Run an application on a Kubernetes cluster, every microservice as a synthetic one that burns CPU and calls."""
    with clear_errors("What was deployed stays; run the same command to go on, or with --delete to take it away."):
        from imbres_gym.application import load_application
        from imbres_gym.config import ConfigError
        from imbres_gym.live.deploy_manifests import IMAGE, DeployOptions, manifests
        from imbres_gym.live.kube import connect

        loaded = load_application(application)
        if dry_run and delete:
            raise ConfigError("--dry-run with --delete: choose one")
        counts = _counts(replicas or [], list(loaded.microservices))
        options = DeployOptions(namespace, image or IMAGE, counts, otlp, trace_sampling, keep_alive)
        objects = manifests(loaded, options)
        if dry_run:
            import yaml

            typer.echo(yaml.safe_dump_all(objects, sort_keys=False), nl=False)
            return
        if context is None:
            raise ConfigError("missing: --context NAME")
        from imbres_gym.live import deploy as steps

        limit_s = duration_seconds(timeout, "--timeout")
        assert limit_s is not None
        with connect(context, namespace, kubeconfig) as client:
            if delete:
                gone = steps.delete(client, loaded.name, namespace)
                typer.echo(f"deleted {', '.join(gone)}" if gone else f"nothing of {loaded.name} is there")
                return
            steps.apply(client, objects, namespace)
            typer.echo(f"applied {len(objects)} objects to namespace {namespace}; waiting until all is ready")
            steps.wait_ready(client, loaded.name, namespace, limit_s, _tell)


def _tell(now: dict[str, tuple[int, int]]) -> None:
    typer.echo("  ready: " + ", ".join(f"{name} {ready}/{wanted}" for name, (ready, wanted) in sorted(now.items())))


def _counts(words: list[str], names: list[str]) -> dict[str, int]:
    """Replicas per microservice of `--replicas 2 --replicas frontend=3`: a name wins over the number for all.

    Raises:
        ConfigError: not a number.
    """
    from imbres_gym.config import ConfigError

    for_all: dict[str, int] = {}
    for_one: dict[str, int] = {}
    for word in words:
        name, separator, number = word.rpartition("=")
        if not number.isdigit() or (separator and not name):
            raise ConfigError(f"--replicas {word}: write a number, or NAME=NUMBER")
        if separator:
            for_one[name] = int(number)
        else:
            for_all = dict.fromkeys(names, int(number))
    return {**for_all, **for_one}
