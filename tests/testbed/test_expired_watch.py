"""The API server answers a node agent's watch with 410 (expired) while plans change: the agent lists, and misses none.

The API server keeps the last changes of a resource in memory and starts anew when the definition of the resource
changes, as with an upgrade of `crd.yaml`: it ends all watches, and none can go on from where it was. A killed API
server does not show that, as its watches end with an error, after which agents list at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import node_agents
import pytest
from connection_plans import PlanWriter, in_force
from lightkube import ApiError
from live_cluster import NAMESPACE, Bed, served_by_pod, wait_for

from imbres_gym.live.connection_plan import GROUP, PLURAL
from imbres_gym.live.kube import plan_resource
from scripts.testbed import api, layout

DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
COLUMNS = "/spec/versions/0/additionalPrinterColumns"
FIRST, SECOND = (0.6, 0.3, 0.1), (0.1, 0.3, 0.6)


def upgrade(columns: list[api.Json]) -> None:
    """Give the custom resource other columns for `kubectl get`: the smallest change of its definition."""
    patch: list[api.Json] = [{"op": "replace", "path": COLUMNS, "value": columns}]
    api.request("PATCH", DEFINITION, patch, "application/json-patch+json")


@pytest.fixture
def columns(bed: Bed) -> Iterator[list[api.Json]]:
    found: list[api.Json] = api.get(DEFINITION)["spec"]["versions"][0]["additionalPrinterColumns"]
    yield found
    upgrade(found)


def wait_expired(watch: Iterator[object]) -> None:
    """Follow a watch until it ends and the API server says that it cannot go on from where it was."""
    with pytest.raises(ApiError) as caught:
        for _ in watch:
            pass
    assert caught.value.status.code == 410, caught.value


def test_agents_whose_watch_has_expired_list_anew_and_put_the_new_plan_in_force(
    loaded: Bed, writer: PlanWriter, columns: list[api.Json], tell: Callable[[str], None]
) -> None:
    addresses = sorted(served_by_pod(loaded, "pricing"))
    old = writer.write(dict(zip(addresses, FIRST, strict=True)))
    wait_for(lambda: in_force(loaded) and node_agents.are_real(old), "first plan in force", 20.0, pause_s=0.05)
    before = node_agents.watch_failures(loaded, "expired")
    like_theirs = loaded.client.watch(plan_resource(), namespace=NAMESPACE, server_timeout=60)
    next(like_theirs)  # begun, as theirs
    with node_agents.paused(loaded):
        upgrade([*columns, {"name": "Expires", "type": "number", "jsonPath": ".spec.expiresAfterSeconds"}])
        wait_expired(like_theirs)
        # The agents' watches have ended, too: only a list can tell them of what comes now.
        new = writer.write(dict(zip(addresses, SECOND, strict=True)))
        assert new.keys() == old.keys()
        assert node_agents.are_real(old)
    took_s = wait_for(lambda: in_force(loaded) and node_agents.are_real(new), "new plan in force", 30.0, pause_s=0.02)
    after = node_agents.watch_failures(loaded, "expired")
    assert after == {node.name: before[node.name] + 1.0 for node in layout.NODES}
    assert node_agents.watch_failures(loaded, "silent") == dict.fromkeys(after, 0.0)
    tell(f"watch expired (410), plan changed meanwhile: the new plan is in force {took_s:.2f} s after the agents go on")
