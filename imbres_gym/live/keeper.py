"""What of the agent's plans is in force, carried over to the containers that there are, and the next bounded step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imbres_gym.live.routes import (
    Rows,
    Table,
    as_links,
    blended,
    build_rows,
    connection_codes,
    connection_counts,
    pair_share,
    step_shares,
)
from imbres_gym.live.telemetry_builder import InForce
from imbres_gym.plan import FULL_CONNECTION, ConnectionPlan, Plan, balanced_proportions, carry_over
from imbres_gym.telemetry import ClusterInfo

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Step:
    """A plan that may be put in force now.

    Attributes:
        plan: the connection plan.
        proportions: (M, H).
        rows: pair -> weights that follow from both, for the containers of now.
        bounded: pair -> share of the way that was gone [0-1], where a bound cut it short.
    """

    plan: ConnectionPlan
    proportions: Floats
    rows: dict[int, Rows]
    bounded: dict[int, float] = field(default_factory=dict)


class PlanKeeper:
    """Remembers the plan in force; starts with that of Kubernetes: everybody calls everybody, alike.

    Args:
        info: fixed facts of the episode.
        max_change: share of a pair's calls that one step may move.
    """

    def __init__(self, info: ClusterInfo, max_change: float) -> None:
        # What is in force may still be on its way to what is wanted.
        self._info = info
        self._max_change = max_change
        shape = len(info.microservices), len(info.hosts)
        self._plan = FULL_CONNECTION
        self._wanted = FULL_CONNECTION
        self._proportions = np.zeros(shape)
        self._ready = np.zeros(shape, np.int64)
        self._codes = np.zeros(0, np.int64)

    @property
    def proportions(self) -> Floats:
        """(M, H) load proportions in force; those of entries are what Kubernetes does: nobody plans their callers."""
        return self._proportions

    def follow(self, table: Table) -> None:
        """Carry what is in force over to the containers that take requests now."""
        ready = table.counts()
        self._proportions = self._with_balanced_entries(carry_over(self._proportions, self._ready, ready), ready)
        self._ready = ready

    def forget(self, table: Table) -> None:
        """Kubernetes' own balancing is in force (again)."""
        self._plan = self._wanted = FULL_CONNECTION
        self._ready = table.counts()
        self._proportions = balanced_proportions(self._ready)

    def adopt(self, plan: ConnectionPlan, table: Table) -> None:
        """A plan that was found in force, written by a controller before this one."""
        self.forget(table)
        self._plan = self._wanted = plan
        rows = self._build(plan, self._proportions, table)
        for pair, of_pair in rows.items():
            if pair in plan.links:
                down = self._info.pairs[pair][1]
                hosts = table.host[np.searchsorted(table.id, of_pair.downstream)]
                self._proportions[down] = np.bincount(hosts, of_pair.share, table.shape[1])

    def hold(self, table: Table) -> Step:
        """What is in force, for the containers of now: those that are gone get no calls."""
        return Step(self._plan, self._proportions, self._build(self._plan, self._proportions, table))

    def propose(self, wanted: Plan, table: Table) -> Step:
        """A bounded step from what is in force towards a plan; parts of it that are None stay."""
        base = self.hold(table)
        if wanted.connections is not None:
            self._wanted = wanted.connections
        plan = self._wanted
        proportions = self._proportions
        if wanted.proportions is not None:
            proportions = self._with_balanced_entries(wanted.proportions, table.counts())
        rows = self._build(plan, proportions, table)
        shares = step_shares(base.rows, rows, self._max_change)
        bounded = {pair: share for pair, share in shares.items() if share < 1.0}
        links = dict(plan.links)
        proportions = proportions.copy()
        for pair, share in bounded.items():
            rows[pair] = blended(base.rows[pair], rows[pair], share)
            links[pair] = as_links(rows[pair])
        for down in {self._info.pairs[pair][1] for pair in bounded}:
            least = min(share for pair, share in shares.items() if self._info.pairs[pair][1] == down)
            proportions[down] = base.proportions[down] + least * (proportions[down] - base.proportions[down])
        return Step(ConnectionPlan(links), proportions, rows, bounded)

    def accept(self, step: Step) -> None:
        """A step is in force."""
        self._plan = step.plan
        self._proportions = step.proportions

    def in_force(self, table: Table, wanted: NDArray[np.int64]) -> InForce:
        """For telemetry; counts the connections that were opened and closed since the last call."""
        rows = self.hold(table).rows
        codes = connection_codes(rows)
        churn = np.setxor1d(codes, self._codes, assume_unique=True).size
        self._codes = codes
        pairs = len(self._info.pairs)
        return InForce(
            wanted=wanted,
            proportions=self._proportions,
            connections=connection_counts(rows, pairs),
            churn=int(churn),
            pair_share=pair_share(rows, table, self._proportions, pairs),
        )

    def _build(self, plan: ConnectionPlan, proportions: Floats, table: Table) -> dict[int, Rows]:
        return build_rows(plan, proportions, table, self._info.pairs)

    def _with_balanced_entries(self, proportions: Floats, ready: NDArray[np.int64]) -> Floats:
        called = {down for _, down in self._info.pairs}
        result = proportions.copy()
        for entry in self._info.entries:
            if entry not in called:
                result[entry] = balanced_proportions(ready[entry : entry + 1])[0]
        return result
