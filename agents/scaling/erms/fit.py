"""Erms' latency model: piecewise linear in the load per container, with slopes that depend on interference.

Erms (Luo et al., ASPLOS'23; artifact `offlineProfiling/fitting.py`). Symbols: x load per container
[1/s]; sigma load at the knee; a slope [ms per 1/s], b intercept [ms] of a piece; C, M utilisation of CPU and memory
bandwidth; a = alpha C + beta M + c.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbres_gym.config import ConfigError
from imbres_gym.profiling.profile import Profile

Floats = NDArray[np.float64]

CPU_RANGE = (0.1, 0.9)
"""CPU use of a container, as a share of its quota, of the points that are fitted (artifact)."""
THROUGHPUT = 0.3
"""Largest relative difference between requests that arrived and that were answered (artifact)."""
RARELY_LOADED = 0.6
"""A microservice whose p90 of CPU use is lower gets a flat model (artifact), unless its p95 exceeds the SLA somewhere:
small containers can saturate at half their quota."""
SELDOM = 0.1
"""A microservice without a call in more than this share of the points that count has two in a point, by chance more or
fewer, and a flat model (estimate)."""
SELDOM_RPS = 1.0
"""Load that one container of it can take at least [1/s]: estimate."""
FLAT_SLOPES = (1e-6, 2e-6)
"""Slopes of a flat model before and after the knee [ms per 1/s] (artifact: 0.001 and 0.002 us)."""
LEAST_SLOPE = 1e-3
"""Stands for a slope that is not positive [ms per 1/s] (artifact: 1 us)."""
LEAST_GAP_MS = 1e-3
"""A smaller gap between the lines at the knee counts as this (artifact: 1 us)."""
OUTLIER_ACCURACY = 0.3
OUTLIER_ERROR = (1.5, 2.5)
"""A point is an outlier if its accuracy is below the first and its error, over the latency at the knee, above the
second (before, after the knee) (artifact)."""


@dataclass(frozen=True)
class Line:
    """One piece of a model at a given interference: L(x) = a x + b.

    Attributes:
        a: slope [ms per 1/s], > 0.
        b: intercept [ms]; far below 0 after a sharp knee.
    """

    a: float
    b: float

    def latency_ms(self, x: float) -> float:
        """Latency at `x` requests/s per container."""
        return self.a * x + self.b


@dataclass(frozen=True)
class Pieces:
    """The model of one microservice at a given interference.

    Attributes:
        before, after: the lines up to the knee and beyond it.
        sigma: load at the knee [1/s per container], > 0.
        largest: load beyond which nothing was fitted, > 0.
    """

    before: Line
    after: Line
    sigma: float
    largest: float

    def latency_ms(self, x: float) -> float:
        """Own p95 at `x` requests/s per container."""
        return (self.before if x <= self.sigma else self.after).latency_ms(x)

    def load_at(self, target_ms: float) -> float:
        """Largest load per container that meets a target [1/s], > 0: x = (T - b) / a of the piece where T lies.

        A target that the model cannot meet at any load gets the load at the knee: fewer requests per container would
        hardly lower the latency. No container gets more than the largest profiled load.
        """
        x = (target_ms - self.before.b) / self.before.a
        if x <= 0.0:
            x = self.sigma
        elif x > self.sigma:
            x = max(self.sigma, (target_ms - self.after.b) / self.after.a)
        return min(x, self.largest)


@dataclass(frozen=True)
class Plane:
    """One piece at any interference: L(x) = (alpha C + beta M + c) x + d.

    Attributes:
        alpha, beta, c: slope [ms per 1/s].
        d: intercept [ms].
    """

    alpha: float
    beta: float
    c: float
    d: float

    def at(self, C: float, M: float) -> Line:
        """The line at one interference."""
        slope = self.alpha * C + self.beta * M + self.c
        return Line(slope if slope > 0.0 else LEAST_SLOPE, self.d)


@dataclass(frozen=True)
class Limit:
    """The largest load that was fitted, linear in interference: alpha C + beta M + c.

    Attributes:
        alpha, beta, c: of the plane through the largest load of every interference level [1/s per container].
        least: the smallest of them [1/s per container], > 0; a lower bound.
    """

    alpha: float
    beta: float
    c: float
    least: float

    def at(self, C: float, M: float) -> float:
        """The limit at one interference."""
        return max(self.alpha * C + self.beta * M + self.c, self.least)


@dataclass(frozen=True)
class LatencyModel:
    """The model of one microservice.

    Attributes:
        before, after: the two pieces.
        knee: median knee of the profiled interference levels [1/s per container]; counts where the lines do not cross.
        largest: largest load that was fitted.
        cpu_per_rps, cpu_idle: CPU use of a container as a share of its quota, linear in x.
    """

    before: Plane
    after: Plane
    knee: float
    largest: Limit
    cpu_per_rps: float
    cpu_idle: float

    def at(self, C: float, M: float) -> Pieces:
        """The model at one interference; the knee is where the lines cross, as in the artifact at run time."""
        before, after = self.before.at(C, M), self.after.at(C, M)
        sigma = (after.b - before.b) / (before.a - after.a) if after.a > before.a else self.knee
        return Pieces(before, after, sigma if sigma > 0.0 else self.knee, self.largest.at(C, M))

    def utilisation(self, x: float) -> float:
        """CPU use of a container at `x` requests/s, as a share of its quota."""
        return self.cpu_per_rps * x + self.cpu_idle


@dataclass(frozen=True)
class Samples:
    """The points of one microservice that are fitted, n of them.

    Attributes:
        x: (n,) load per container [1/s].
        y: (n,) own p95 [ms].
        C, M: (n,) utilisation of CPU and memory bandwidth as observed [0-1].
        group: (n,) number of the point's place in the interference grid.
    """

    x: Floats
    y: Floats
    C: Floats
    M: Floats
    group: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> Samples:
        """Some of the points."""
        return Samples(self.x[keep], self.y[keep], self.C[keep], self.M[keep], self.group[keep])


def fit_models(profile: Profile, sla_ms: float) -> tuple[LatencyModel, ...]:
    """The model of every microservice, in the profile's order.

    Args:
        profile: of the application.
        sla_ms: points with a p95 above it are left out: no target can be there, and near saturation latency depends on
            how long one measures. The artifact's limits alone (CPU, throughput) let such points through here, since a
            container saturates below 90 % of its quota.
    """
    return tuple(fit_model(profile, index, sla_ms) for index in range(len(profile.microservices)))


def fit_model(profile: Profile, index: int, sla_ms: float) -> LatencyModel:
    """Fit the points of one microservice; a flat model where its knee is out of reach, or it is hardly ever called.

    Raises:
        ConfigError: no point of the profile can be used.
    """
    points = profile.points
    usage = profile.column(points.utilisation, index)
    grid = sorted(set(points.grid))
    samples = Samples(
        x=profile.column(points.load_rps, index),
        y=profile.column(points.p95_ms, index),
        C=np.array(points.cpu),
        M=np.array(points.memory_bandwidth),
        group=np.array([grid.index(place) for place in points.grid]),
    )
    answered = np.abs(1.0 - np.array(points.answered)).max(axis=1) < THROUGHPUT
    called = samples.x > 0.0
    if np.count_nonzero(answered & ~called) > SELDOM * np.count_nonzero(answered):
        before, after = _level(float(samples.y.max(initial=0.0, where=called)))
        most = max(SELDOM_RPS, float(samples.x.max()))
        return LatencyModel(before, after, most, Limit(0.0, 0.0, most, most), 0.0, float(usage.mean()))
    answered &= called
    if not answered.any():
        raise ConfigError(
            f"profile: {profile.microservices[index]}: in no point are {1.0 - THROUGHPUT:.0%} of the requests of every "
            "class answered; profile lower loads, or more containers"
        )
    slope, idle = np.polyfit(samples.x[answered], usage[answered], 1)
    used = answered & (samples.y <= sla_ms)
    if not used.any():
        used = answered  # even its lightest load is too much for the SLA
    if np.quantile(usage, 0.9) < RARELY_LOADED and samples.y.max() <= sla_ms:
        before, after, knee = _flat(samples.where(used))
    else:
        loaded = used & (usage > CPU_RANGE[0]) & (usage < CPU_RANGE[1])
        before, after, knee = fit_planes(samples.where(loaded if loaded.any() else used))
    return LatencyModel(before, after, knee, _limit(samples.where(used)), float(slope), float(idle))


def fit_planes(samples: Samples) -> tuple[Plane, Plane, float]:
    """Knee of every interference level, then one pooled fit per piece; one plane for both if no level shows a knee.

    Returns:
        The planes before and after the knee, and the median knee [1/s per container].
    """
    before, after, knees = [], [], []
    for group in np.unique(samples.group):
        level = samples.where(samples.group == group)
        found = find_knee(level.x, level.y)
        if found is not None:
            sigma, level = found[0], level.where(found[1])
            knees.append(sigma)
            before.append(level.where(level.x <= sigma))
            after.append(level.where(level.x > sigma))
    if not knees:
        plane = _pooled([samples], least_d=0.0)
        return plane, plane, float(np.median(samples.x))
    return _pooled(before, least_d=0.0), _pooled(after), float(np.median(knees))


def find_knee(x: Floats, y: Floats) -> tuple[float, NDArray[np.bool_]] | None:
    """The knee of one interference level: the best split into two lines.

    Outliers of the best split are dropped and the search is repeated, once.

    Returns:
        The largest load of the first piece [1/s], and which points are no outliers; None if no split has two rising
        lines.
    """
    best = _best_split(x, y)
    if best is None:
        return None
    sigma, before, after = best
    fitted = np.where(x <= sigma, before.latency_ms(0.0) + before.a * x, after.latency_ms(0.0) + after.a * x)
    error = np.abs(fitted - y)
    limit = np.where(x <= sigma, *OUTLIER_ERROR) * max(before.latency_ms(sigma), 1e-9)
    outlier = (1.0 - error / y < OUTLIER_ACCURACY) & (error > limit)
    if outlier.any():
        again = _best_split(x[~outlier], y[~outlier])
        sigma = again[0] if again is not None else sigma
    return sigma, ~outlier


def _best_split(x: Floats, y: Floats) -> tuple[float, Line, Line] | None:
    """The split of the highest score; each side has at least two points of different load."""
    best: tuple[float, Line, Line] | None = None
    best_score = 0.0
    for low, high in itertools.pairwise(np.unique(x)):
        left, right = x <= low, x >= high
        if len(np.unique(x[left])) < 2 or len(np.unique(x[right])) < 2:
            continue
        before, after = _line(x[left], y[left]), _line(x[right], y[right])
        score = _score(x, y, float(low), before, after)
        if score > best_score:
            best, best_score = (float(low), before, after), score
    return best


def _score(x: Floats, y: Floats, sigma: float, before: Line, after: Line) -> float:
    """Accuracy over the gap that the two lines leave at the knee; 0 for a falling line (artifact)."""
    if before.a < 0.0 or after.a < 0.0:
        return 0.0
    left = x <= sigma
    accuracy = sum(
        side.sum() * np.median(1.0 - np.abs(line.a * x[side] + line.b - y[side]) / y[side])
        for side, line in ((left, before), (~left, after))
    ) / len(x)
    gap = abs(after.latency_ms(sigma) - before.latency_ms(sigma))
    return float(accuracy / (max(LEAST_GAP_MS, gap) / max(float(np.ptp(y)), 1e-9)))


def _line(x: Floats, y: Floats) -> Line:
    a, b = np.polyfit(x, y, 1)
    return Line(float(a), float(b))


def _pooled(parts: list[Samples], least_d: float = -np.inf) -> Plane:
    """Least squares over all interference levels; `least_d` is a lower bound of the intercept [ms].

    Before the knee the bound is 0: a target below 0 would otherwise look as if it could be met.
    """
    x, y, C, M = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "C", "M"))
    slopes = np.stack([C * x, M * x, x], axis=1)
    (alpha, beta, c, d), *_ = np.linalg.lstsq(np.column_stack([slopes, np.ones_like(x)]), y)
    if d < least_d:
        d = least_d
        (alpha, beta, c), *_ = np.linalg.lstsq(slopes, y - d)
    return Plane(float(alpha), float(beta), float(c), float(d))


def _limit(samples: Samples) -> Limit:
    """The plane through the largest load of every interference level.

    Points above the SLA are not fitted, so that high loads are known only where interference is low.
    """
    levels = [samples.where(samples.group == group) for group in np.unique(samples.group)]
    most = np.array([level.x.max() for level in levels])
    terms = np.array([[level.C.mean(), level.M.mean(), 1.0] for level in levels])
    (alpha, beta, c), *_ = np.linalg.lstsq(terms, most)
    return Limit(float(alpha), float(beta), float(c), float(most.min()))


def _flat(samples: Samples) -> tuple[Plane, Plane, float]:
    """A microservice without a knee in reach: whatever the load, the 95th percentile of all points' p95 (artifact)."""
    return *_level(float(np.quantile(samples.y, 0.95))), float(samples.x.max())


def _level(latency_ms: float) -> tuple[Plane, Plane]:
    """Two flat pieces."""
    before, after = (Plane(0.0, 0.0, slope, latency_ms) for slope in FLAT_SLOPES)
    return before, after
