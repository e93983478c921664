"""Makes the fakes of this folder importable, and gives every test a bed of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent))

if TYPE_CHECKING:
    from fake_clock import Clock
    from live_bed import Bed

    from imbres_gym.live.cluster import LiveCluster


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    from live_bed import Bed

    bed = Bed(tmp_path)
    yield bed
    bed.close()


@pytest.fixture
def clock() -> Clock:
    from fake_clock import Clock

    return Clock()


@pytest.fixture
def make_live(bed: Bed, clock: Clock, tmp_path: Path) -> Iterator[Callable[..., LiveCluster]]:
    """Makes clusters on the bed, whose time is the clock's; they are closed in the end."""
    from live_bed import NAMESPACE

    from imbres_gym.live.cluster import LiveCluster
    from imbres_gym.live.kube import connect

    made: list[LiveCluster] = []

    def make(changes: dict[str, Any] | None = None, **options: Any) -> LiveCluster:
        client = connect("bed", NAMESPACE, bed.kubernetes.kubeconfig(tmp_path))
        cluster = LiveCluster(bed.config(**(changes or {})), client, clock=clock, sleep=clock.sleep, **options)
        made.append(cluster)
        return cluster

    yield make
    bed.kubernetes.fail = lambda method, path: None
    for cluster in made:
        cluster.close()
