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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from imbres_gym.application import Application, load_application  # noqa: E402
from imbres_gym.config import ConfigError, StrictModel, nearest, read_yaml, validate  # noqa: E402
from imbres_gym.scenario import Scenario  # noqa: E402
from imbres_gym.sim.events import EventCluster  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

Floats = NDArray[np.float64]

SURFACES = "erms_xgb_surface_p95.csv"
PROFILES = ROOT / "configs" / "experiments" / "profiles" / "erms.yaml"

CLIENTS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20)
"""Numbers of load-generator clients, of 20, whose load is simulated; between them the latency is interpolated."""

WARMUP_S = 10.0
MEASURED_S = 40.0
"""Simulated time of a point [s]: as in the measurements; longer where fewer than `MEASURED_REQUESTS` would end."""
MEASURED_REQUESTS = 1000
REPEATS = 3
"""Simulations of a point, as in the measurements; containers start their CFS periods at other times in each."""

KNEE_FACTOR = 3.0
"""The wall begins where the p95 stays above this many times that of low load."""
AROUND_KNEE = 1.25
"""Loads within this factor of the knee are "around" it."""
REGIONS = ("below", "around", "above")
SHOWN_LOADS = {"low": 0.15, "mid": 0.5, "high": 0.85}
"""Positions among the measured loads of a curve that the table shows."""

LOAD_GENERATOR = "load-generator"


class MeasuredCluster(StrictModel):
    """The cluster that was measured; its hosts are alike."""

    hosts: int = Field(ge=1)
    cores: float = Field(gt=0.0)
    memory_mb: float = Field(gt=0.0)
    hop_ms: float = Field(ge=0.0)
    """Round-trip RPC overhead between containers of this cluster [ms]; takes the place of the application's."""


class Profile(StrictModel):
    """One profiled deployment: an application under a single request class."""

    application: str
    """A name of `configs/applications/`, or a YAML file relative to the profiles."""
    client_spans: bool
    """Whether the measured version of the application records a client span for each RPC."""
    request_class: str
    replicas: dict[str, int] = Field(default_factory=dict)
    """Containers of each microservice; 1 of those that are not named."""
    names: dict[str, str] = Field(default_factory=dict)
    """Measured names of microservices that the application calls otherwise."""
    connections: int = Field(ge=1)
    """Connections of one load-generator client, each with at most one request outstanding."""
    clients: int = Field(ge=1)
    """Clients at the highest measured load; each client offers the same load."""
    source: str

    def containers(self, microservice: str) -> int:
        """Containers of a microservice, by the application's name for it."""
        return self.replicas.get(microservice, 1)


class Profiles(StrictModel):
    """The file of profiles: the cluster, and a profile for each service of the surfaces."""

    cluster: MeasuredCluster
    profiles: dict[str, Profile] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class Measured:
    """The measured curve of one microservice at one level of interference.

    Attributes:
        app, service, microservice: as in the file.
        cpu_cores: CPU interference per host [cores].
        load_rps: (n,) end-user requests/s per container, rising.
        p95_ms: (n,) own p95, the median over levels of memory interference (memory held has no effect on it).
    """

    app: str
    service: str
    microservice: str
    cpu_cores: float
    load_rps: Floats
    p95_ms: Floats


@dataclass(frozen=True, eq=False)
class Curve:
    """A measured curve and what the engine predicts at its loads (n,) [ms]."""

    measured: Measured
    predicted_ms: Floats

    @property
    def ln_ratio(self) -> Floats:
        """(n,) ln(predicted / measured): 0 is right, 0.69 is twice as much."""
        ratio: Floats = np.log(self.predicted_ms / self.measured.p95_ms)
        return ratio

    @property
    def regions(self) -> NDArray[np.str_]:
        """(n,) where each load lies of the measured knee; all of a curve without a knee lies below."""
        knee = knee_rps(self.measured.load_rps, self.measured.p95_ms)
        relative = self.measured.load_rps / (math.inf if knee is None else knee)
        return np.where(relative < 1.0 / AROUND_KNEE, "below", np.where(relative <= AROUND_KNEE, "around", "above"))


def knee_rps(load_rps: Floats, p95_ms: Floats) -> float | None:
    """The load from which on the p95 stays above `KNEE_FACTOR` times that of the lowest fifth of loads, if any."""
    low = float(np.median(p95_ms[: max(3, len(p95_ms) // 5)]))
    under = np.flatnonzero(p95_ms <= KNEE_FACTOR * low)
    first = int(under[-1]) + 1 if under.size else 0
    return float(load_rps[first]) if first < len(load_rps) else None


def read_surfaces(path: Path, services: Sequence[str] | None = None) -> list[Measured]:
    """The measured curves in the order of the file, without nginx, whose load is not per container.

    Args:
        path: of the CSV file.
        services: those wanted; all if absent.

    Raises:
        ConfigError: the file cannot be read, or a column is missing or holds what is no measurement; names both.
    """
    cells: dict[tuple[str, str, str, float], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for name in ("app", "service", "microservice", "cpuInter_cores", "rps_per_container", "p95_latency_us"):
                if name not in (reader.fieldnames or ()):
                    raise ConfigError(f"{path}: column {name} is missing; {nearest(name, reader.fieldnames or ())}")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if row["microservice"].startswith("nginx") or (services and row["service"] not in services):
                    continue
                cpu_cores = _number(row, "cpuInter_cores", where, least=0.0)
                load_rps = _number(row, "rps_per_container", where, least=1e-9)
                p95_us = _number(row, "p95_latency_us", where, least=1e-9)
                cells[row["app"], row["service"], row["microservice"], cpu_cores][load_rps].append(p95_us / 1000.0)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if not cells:
        wanted = f" of {', '.join(services)}" if services else ""
        raise ConfigError(f"{path}: column service: there are no rows{wanted} besides nginx")
    return [
        Measured(*key, np.array(sorted(points)), np.array([np.median(points[load]) for load in sorted(points)]))
        for key, points in cells.items()
    ]


def _number(row: dict[str, str], column: str, where: str, least: float) -> float:
    """A finite number of at least `least` in a column."""
    text = row[column]
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise ConfigError(f"{where}: column {column}: must be a number of at least {least:g} (got {text!r})")
    return value


def load_profiles(path: Path) -> Profiles:
    """Read the file of profiles.

    Raises:
        ConfigError: not a valid file; says which key.
    """
    return validate(Profiles, read_yaml(path), path)


def check_names(curves: Iterable[Measured], profiles: Profiles, path: Path, folder: Path) -> None:
    """See that each measured microservice is one that its profile's request class calls.

    Raises:
        ConfigError: it is not; names file and column.
    """
    seen = {(curve.service, curve.microservice) for curve in curves}
    for service, microservice in sorted(seen):
        profile = profiles.profiles.get(service)
        if profile is None:
            hint = nearest(service, profiles.profiles)
            raise ConfigError(f"{path}: column service: there is no profile of {service!r}; {hint}")
        calls = one_class(read_application(profile, folder), profile.request_class).calls_per_request()
        name = profile.names.get(microservice, microservice)
        if not calls.get(name):
            hint = nearest(name, [called for called, number in calls.items() if number])
            raise ConfigError(
                f"{path}: column microservice: {service} calls no {name!r}; {hint} (`names` of the profile maps names)"
            )


def read_application(profile: Profile, folder: Path) -> Application:
    """The application of a profile, as shipped; `folder` is that of the profiles."""
    is_file = Path(profile.application).suffix in {".yaml", ".yml"}
    return load_application(folder / profile.application if is_file else profile.application)


def one_class(application: Application, request_class: str) -> Application:
    """The application with nothing but requests of one class.

    Raises:
        ConfigError: there is no such class.
    """
    if request_class not in application.request_classes:
        hint = nearest(request_class, application.class_names)
        raise ConfigError(f"{application.name}: there is no request class {request_class!r}; {hint}")
    only = application.request_classes[request_class].model_copy(update={"share": 1.0})
    return application.model_copy(update={"request_classes": {request_class: only}})


def deployment(
    application: Application, profile: Profile, cluster: MeasuredCluster, rps: float, clients: int, cpu_cores: float
) -> Scenario:
    """The measured deployment under one load and one level of interference, as a scenario.

    The load generator is an entry microservice with as many workers as it has connections: what a client may not send
    yet waits there, outside every span of the application, as in wrk2. It costs no CPU and feels no interference.

    Args:
        application: as read from its file.
        profile: of the deployment.
        cluster: that was measured.
        rps: end-user requests/s.
        clients: of the load generator.
        cpu_cores: that best-effort jobs burn on each host.
    """
    data = one_class(application, profile.request_class).model_dump()
    generator = {
        "operations": {"send": {"cpu_ms": 1e-6}},
        "cores": 1.0,
        "memory_mb": 1.0,
        "workers": profile.connections * clients,
        "accept_queue": 10_000_000,
        "sensitivity": dict.fromkeys(("cpu", "memory_bandwidth", "llc", "network"), 0.0),
    }
    request = data["request_classes"][profile.request_class]
    request |= {"tree": {"call": f"{LOAD_GENERATOR}/send", "stages": [[request["tree"]]]}, "deadline_ms": 1e9}
    data |= {"hop_ms": cluster.hop_ms, "client_spans": profile.client_spans}
    data["microservices"][LOAD_GENERATOR] = generator
    scenario = {
        "name": f"{application.name}, {profile.request_class}",
        "application": data,
        "hosts": {"count": cluster.hosts, "cores": cluster.cores, "memory_mb": cluster.memory_mb},
        "workload": {"kind": "constant", "rps": rps},
        "interference": {"kind": "constant", "levels": [{"cpu": cpu_cores / cluster.cores}]},
        "sla_ms": 1000.0,  # has no influence on what is measured here
        "initial_replicas": {name: profile.containers(name) for name in data["microservices"]},
    }
    return validate(Scenario, scenario, f"profile of {profile.request_class}")


def own_p95_ms(scenario: Scenario, seed: int) -> dict[str, float]:
    """Own p95 of each microservice that the requests call [ms].

    It is the median over `REPEATS` simulations with the seeds from `seed` on.
    """
    cluster = EventCluster(scenario)
    seconds = max(MEASURED_S, MEASURED_REQUESTS / scenario.workload.rate(0.0))
    repeats: list[Floats] = []
    for repeat in range(REPEATS):
        started_s = cluster.reset(seed + repeat).time_s
        cluster.advance(WARMUP_S - started_s)
        telemetry = cluster.advance(seconds)
        # Nothing is known of a microservice of which no span ended; 0 would be taken for a latency.
        repeats.append(np.where(telemetry.samples.sum(axis=1) > 0, telemetry.microservice_p95_ms, np.nan))
    medians = np.median(repeats, axis=0)
    return {
        name: float(p95) for name, p95 in zip(cluster.info.microservices, medians, strict=True) if not math.isnan(p95)
    }


def predict(
    measured: Sequence[Measured],
    profile: Profile,
    cluster: MeasuredCluster,
    application: Application,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> list[Curve]:
    """Simulate one profiled deployment and read its latencies at the measured loads.

    Args:
        measured: curves of one service.
        profile: of that service.
        cluster: that was measured.
        application: of the profile.
        seed: first of the repeats of every point, so that points differ by load and interference only.
        done: called after each point.

    Returns:
        A curve for each measured one; latencies between simulated loads are interpolated, log over log.
    """
    names = {curve.microservice: profile.names.get(curve.microservice, curve.microservice) for curve in measured}
    highest = max(float(curve.load_rps[-1]) * profile.containers(names[curve.microservice]) for curve in measured)
    clients = [n for n in CLIENTS if n < profile.clients] + [profile.clients]
    loads = highest * np.array(clients) / profile.clients
    curves: dict[float, list[Measured]] = defaultdict(list)
    for curve in measured:
        curves[curve.cpu_cores].append(curve)
    predicted: dict[int, Curve] = {}
    for cpu_cores, at_level in sorted(curves.items()):
        p95 = []
        for rps, number in zip(loads, clients, strict=True):
            p95.append(own_p95_ms(deployment(application, profile, cluster, float(rps), number, cpu_cores), seed))
            done()
        for curve in at_level:
            name = names[curve.microservice]
            end_user_rps = curve.load_rps * profile.containers(name)
            at_loads = np.interp(np.log(end_user_rps), np.log(loads), np.log([point[name] for point in p95]))
            predicted[id(curve)] = Curve(curve, np.exp(at_loads))
    return [predicted[id(curve)] for curve in measured]


def simulated_points(measured: Iterable[Measured], profiles: Profiles) -> int:
    """How many points (load and interference) the prediction of these curves simulates."""
    levels = {(curve.service, curve.cpu_cores) for curve in measured}
    return sum(1 + sum(n < profiles.profiles[service].clients for n in CLIENTS) for service, _ in levels)


def microservices(curves: Iterable[Curve]) -> dict[tuple[str, str], list[Curve]]:
    """Curves by (service, microservice), those of one in the order of interference."""
    groups: dict[tuple[str, str], list[Curve]] = defaultdict(list)
    for curve in curves:
        groups[curve.measured.service, curve.measured.microservice].append(curve)
    return {key: sorted(group, key=lambda curve: curve.measured.cpu_cores) for key, group in groups.items()}


def errors(curves: Iterable[Curve], region: str | None = None) -> Floats:
    """ln(predicted / measured) of all points, or of those in one region."""
    parts = [curve.ln_ratio if region is None else curve.ln_ratio[curve.regions == region] for curve in curves]
    return np.concatenate(parts)


def middle(values: Floats) -> float:
    """The median; nan of nothing."""
    return float(np.median(values)) if values.size else math.nan


def summary_rows(curves: Sequence[Curve]) -> Iterator[list[str]]:
    """One row per microservice, then the two overall rows, as text; the columns are `SUMMARY_COLUMNS`."""
    groups = microservices(curves)
    for (service, name), group in groups.items():
        lowest = group[0]
        knees = [knee_rps(lowest.measured.load_rps, p95) for p95 in (lowest.measured.p95_ms, lowest.predicted_ms)]
        yield [service, name, *_error_cells([group]), " -> ".join("none" if k is None else f"{k:.3g}" for k in knees)]
    yield ["median over points", "", *_error_cells([curves]), ""]
    yield ["mean over microservices", "", *_error_cells(list(groups.values())), ""]


SUMMARY_COLUMNS = ("service", "microservice", "points", "error", "bias", *REGIONS, "knee [req/s]")


def _error_cells(groups: Sequence[Sequence[Curve]]) -> list[str]:
    """Points, median |ln|, bias and median |ln| per region, each the mean over the groups that have any."""

    def mean(medians: Iterable[float], form: str = ".2f") -> str:
        known = [value for value in medians if not math.isnan(value)]
        return format(np.mean(known), form) if known else "-"

    return [
        str(sum(errors(group).size for group in groups)),
        mean(middle(np.abs(errors(group))) for group in groups),
        mean((middle(errors(group)) for group in groups), "+.2f"),
        *(mean(middle(np.abs(errors(group, region))) for group in groups) for region in REGIONS),
    ]


def level_rows(curves: Sequence[Curve]) -> Iterator[list[str]]:
    """One row per curve: error, and predicted/measured own p95 [ms] at low, mid and high load."""
    for (service, name), group in microservices(curves).items():
        for curve in group:
            at = [round(share * (curve.ln_ratio.size - 1)) for share in SHOWN_LOADS.values()]
            yield [
                f"{service} {name}",
                f"{curve.measured.cpu_cores:g}",
                str(curve.ln_ratio.size),
                f"{middle(np.abs(curve.ln_ratio)):.2f}",
                f"{middle(curve.ln_ratio):+.2f}",
                *(f"{curve.predicted_ms[i]:.3g}/{curve.measured.p95_ms[i]:.3g}" for i in at),
            ]


LEVEL_COLUMNS = ("microservice", "cores", "points", "error", "bias", *SHOWN_LOADS)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], names: int) -> Table:
    """A table for the terminal; the first `names` columns hold names, the others numbers."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(title), title_justify="left")
    for i, column in enumerate(columns):
        made.add_column(escape(column), justify="left" if i < names else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


POINT_COLUMNS = (
    *("app", "service", "microservice", "cpuInter_cores", "rps_per_container"),
    *("measured_p95_ms", "predicted_p95_ms", "region"),
)


def write_points(curves: Sequence[Curve], path: Path) -> None:
    """Write every point as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(POINT_COLUMNS)
        for curve in curves:
            measured = curve.measured
            key = [measured.app, measured.service, measured.microservice, measured.cpu_cores]
            points = zip(measured.load_rps, measured.p95_ms, curve.predicted_ms, curve.regions, strict=True)
            writer.writerows([*key, load, f"{p95:.4g}", f"{ours:.4g}", region] for load, p95, ours, region in points)


def write_markdown(curves: Sequence[Curve], path: Path) -> None:
    """Write the summary as a Markdown table."""
    lines = [SUMMARY_COLUMNS, ["-" if i < 2 else "-:" for i in range(len(SUMMARY_COLUMNS))], *summary_rows(curves)]
    path.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


def write_figure(curves: Sequence[Curve], path: Path) -> None:
    """Draw p95 over load, one panel per microservice, at the lowest and the highest interference.

    The levels between would only hide these; they are in the CSV. Colours: Okabe and Ito (2008).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    groups = microservices(curves)
    columns = min(4, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(2.9 * columns + 0.3, 2.15 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Sequence[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis, ((service, name), group) in zip(axes, groups.items(), strict=False):
        for (colour, marker), curve in zip((("#0072B2", "o"), ("#D55E00", "s")), (group[0], group[-1]), strict=True):
            load = curve.measured.load_rps
            axis.plot(load, curve.measured.p95_ms, marker=marker, ms=3, mfc="none", mew=0.8, lw=0.5, color=colour)
            axis.plot(load, curve.predicted_ms, lw=2.0, color=colour)
        _set_latency_axis(axis)
        axis.set_title(f"{service}\n{name}", fontsize=8.5, loc="left")
        axis.tick_params(labelsize=8)
        axis.grid(color="#E6E6E6", lw=0.7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    figure.supxlabel("end-user requests/s per container", fontsize=9)
    figure.supylabel("own p95 [ms]", fontsize=9)
    black: dict[str, Any] = {"color": "#333333"}
    figure.legend(
        handles=[
            Line2D([], [], marker="o", ms=4, mfc="none", lw=0.5, label="measured", **black),
            Line2D([], [], lw=2.0, label="predicted", **black),
            Line2D([], [], lw=2.0, color="#0072B2", marker="o", ms=4, mfc="none", label="lowest CPU interference"),
            Line2D([], [], lw=2.0, color="#D55E00", marker="s", ms=4, mfc="none", label="highest"),
        ],
        loc="outside upper center",
        ncols=4,
        fontsize=9,
        frameon=False,
    )
    figure.savefig(path, dpi=130)


def _set_latency_axis(axis: Axes) -> None:
    """A log axis of a decade at least, so that the noise of flat curves does not fill the panel."""
    from matplotlib.ticker import LogLocator

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    widening = max(1.0, math.sqrt(10.0 * low / high))
    axis.set_ylim(low / widening, high * widening)
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100.0 * low else (1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")


def run(data: Path, out: Path, profiles_path: Path, services: Sequence[str] | None, seed: int) -> list[Curve]:
    """Predict what is measured in the folder `data`, print the tables, and write points, summary and figure to `out`.

    Raises:
        ConfigError: the surfaces or the profiles are not valid.
    """
    from rich.console import Console
    from rich.progress import Progress

    console, source = Console(), data / SURFACES
    profiles = load_profiles(profiles_path)
    measured = read_surfaces(source, services)
    check_names(measured, profiles, source, profiles_path.parent)
    groups: dict[str, list[Measured]] = defaultdict(list)
    for curve in measured:
        groups[curve.service].append(curve)
    curves: list[Curve] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=simulated_points(measured, profiles))
        for service, group in groups.items():
            progress.update(task, description=service)
            profile = profiles.profiles[service]
            application = read_application(profile, profiles_path.parent)
            curves += predict(group, profile, profiles.cluster, application, seed, lambda: progress.advance(task))
    out.mkdir(parents=True, exist_ok=True)
    write_points(curves, out / "validation-points.csv")
    write_markdown(curves, out / "validation-summary.md")
    write_figure(curves, out / "validation-erms.png")
    # Piped or in a narrow window, a cut table would hide numbers: lines as long as they are.
    console.width = max(console.width, 140)
    console.print(table("Own p95 [ms], predicted/measured", LEVEL_COLUMNS, level_rows(curves), names=1))
    title = "Error: median |ln(predicted/measured)|; knee at the lowest interference, measured -> predicted"
    console.print(table(title, SUMMARY_COLUMNS, summary_rows(curves), names=2))
    missing = sorted(set(services or profiles.profiles) - set(groups))
    if missing:
        console.print(f"not in {source}: {', '.join(missing)}")
    console.print(f"written to {out}: validation-points.csv, validation-summary.md, validation-erms.png")
    return curves


def main() -> None:
    """Read the command line, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {SURFACES}")
    parser.add_argument("--out", type=Path, required=True, help="folder for the CSV, the summary and the figure")
    parser.add_argument("--profiles", type=Path, default=PROFILES, help="YAML file of profiled deployments")
    parser.add_argument("--service", nargs="+", metavar="S", help="only these services (ComposePost, Search, ...)")
    parser.add_argument("--seed", type=int, default=0, help="first of the repeats of every point")
    given = parser.parse_args()
    try:
        run(given.data, given.out, given.profiles, given.service, given.seed)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
