"""The image of the controller for the bed: the node agent's, numeric libraries, and the variables of the Dockerfile.

Too large (500 MB) to be loaded whenever the bed comes up: who wants the controller as a pod loads it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.testbed import nodes
from scripts.testbed.agent_image import LIBRARIES, add_libraries, agent_layers, build_image
from scripts.testbed.images import build_layer
from scripts.testbed.layout import NODES
from scripts.testbed.steps import step

CONTROLLER = "localhost/imbres-gym-controller:1"
NUMERIC = ("gymnasium", "numba", "numpy", "redis", "scipy", "tensorboard")
"""What `imbres-gym live` imports besides the node agent's libraries."""
VARIABLES = ("PYTHONUNBUFFERED=1", "HOME=/tmp", "NUMBA_CACHE_DIR=/tmp/numba", "MPLCONFIGDIR=/tmp/matplotlib")


def load() -> None:
    """Make the image if something of it has changed, and load it into all nodes."""
    archive = build_image("controller", CONTROLLER, "the controller", Path(__file__), _layers, VARIABLES)
    with step("load the image of the controller into the nodes"), ThreadPoolExecutor(len(NODES)) as pool:
        list(pool.map(lambda node: nodes.ctr(node, "images", "import", str(archive)), NODES))


def _layers() -> list[bytes]:
    *below, checkout = agent_layers()
    return [*below, build_layer(lambda tar: add_libraries(tar, NUMERIC, without=LIBRARIES)), checkout]
