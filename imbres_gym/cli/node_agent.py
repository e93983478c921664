"""`imbres-gym node-agent`: keep the planned connections of one node's pods in force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbres_gym.cli.errors import clear_errors


def node_agent(
    node: Annotated[str, typer.Option(envvar="NODE_NAME", help="This node's name in Kubernetes.")],
    context: Annotated[
        str, typer.Option(help="Context of the kubeconfig file; 'in-cluster' for the pod's service account.")
    ],
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig file.  [default: ~/.kube/config]")] = None,
    check_interval: Annotated[
        float, typer.Option(min=1.0, help="Seconds between two looks at the rules and the kill switch.")
    ] = 5.0,
    drain: Annotated[
        int, typer.Option(min=0, help="Established connections to close per second where rules changed; 0 closes none.")
    ] = 0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /metrics and /healthz.")] = 9465,
) -> None:
    """Write the connection plans of this node into its pods' network namespaces, until it is ended."""
    with clear_errors("The rules of this agent were taken out."):
        from imbres_gym.live.node.main import run_agent

        run_agent(node, context, kubeconfig, check_interval_s=check_interval, drain_per_s=drain, port=port)
