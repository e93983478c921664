"""How well the event engine predicts measured latency: own p95 over load and CPU interference, against Erms' surfaces.

Run from a checkout: `python scripts/validate_latency.py --data DIR --out DIR`. `docs/validation.md` says what is
measured, how it is predicted, and what came out.

`DIR/erms_xgb_surface_p95.csv` has the columns app, service (Erms' word for a request class), microservice,
cpuInter_cores (CPU that best-effort jobs burn per host [cores]), memInter_MiB (memory that they hold),
rps_per_container (end-user requests/s of the class divided by the containers of the microservice) and p95_latency_us.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched, pairwise  # type: ignore[attr-defined]
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
