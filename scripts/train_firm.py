"""Trains FIRM on one application and writes its bundle and learning curve.

Run from a checkout: `python scripts/train_firm.py hotel-reservation --out runs/firm`, and, to go on from there on
another application, `python scripts/train_firm.py media-service --start runs/firm/firm-hotel-reservation.zip
--transitions 2000 --out runs/firm`. The same command resumes an interrupted training.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402

from agents.bundle import load_bundle  # noqa: E402
from agents.scaling.firm.recipe import SAMPLES, train_firm  # noqa: E402
from agents.scaling.firm.training import TRANSITIONS, CurvePoint  # noqa: E402


def show(point: CurvePoint) -> None:
    """One line per episode."""
    print(f"episode {point.episode}: {point.transitions} transitions, reward {point.training_reward:.3f}", flush=True)
    if point.evaluation is not None:
        print(f"  without noise, on unseen seeds: {point.evaluation}", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("application", help="as in configs/applications/")
    parser.add_argument("--out", type=Path, default=Path("runs/firm"), help="folder for everything that is written")
    parser.add_argument("--start", help="bundle of FIRM on another application to go on from")
    parser.add_argument("--transitions", type=int, default=TRANSITIONS, help="of the agent, at least")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of the support vector machine, at least")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = train_firm(
        arguments.application,
        arguments.out,
        transitions=arguments.transitions,
        samples=arguments.samples,
        start=None if arguments.start is None else load_bundle(arguments.start),
        on_point=show,
    )
    for name, value in bundle.metrics.items():
        print(f"{name} {value:.4g}")


if __name__ == "__main__":
    main()
