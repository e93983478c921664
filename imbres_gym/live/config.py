"""The configuration of a live run, from one YAML file (docs/live.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from imbres_gym.application import Application, load_application
from imbres_gym.config import ConfigError, StrictModel, key_error, nearest, read_yaml, validate

QUERIES = {
    "node_cpu": "imbres_node_cpu_utilisation",
    "node_memory_bandwidth": "imbres_node_memory_bandwidth_utilisation",
    "node_network": "imbres_node_network_utilisation",
    "node_llc": "imbres_node_llc_utilisation",
    "pod_cpu_cores": (
        'sum by (pod) (irate(container_cpu_usage_seconds_total{namespace="$namespace", container!=""}[1m]))'
    ),
    "requests": 'sum by (pod) (rate(imbres_requests_total{namespace="$namespace"}[$window]))',
    "own_latency_sum": 'sum by (pod) (rate(imbres_own_latency_seconds_sum{namespace="$namespace"}[$window]))',
    "own_latency_buckets": (
        'sum by (pod, le) (rate(imbres_own_latency_seconds_bucket{namespace="$namespace"}[$window]))'
    ),
    "own_latency_time": 'max by (pod) (timestamp(imbres_own_latency_seconds_count{namespace="$namespace"}))',
    "e2e_sum": 'sum by (request_class) (rate(imbres_e2e_latency_seconds_sum{namespace="$namespace"}[$window]))',
    "e2e_buckets": (
        'sum by (request_class, le) (rate(imbres_e2e_latency_seconds_bucket{namespace="$namespace"}[$window]))'
    ),
    "e2e_failures": ('sum by (request_class) (rate(imbres_e2e_failures_total{namespace="$namespace"}[$window]))'),
}
"""Name -> PromQL, for the metrics of the synthetic service; `$namespace`, `$application`, `$window` are filled in.

CPU use is that between the last two samples of a minute, since cAdvisor looks at a quiet container every 10-15 s only
(its housekeeping interval), whatever the scrape interval is."""

_NAME = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""A name as Kubernetes takes it for namespaces, Services and in labels (RFC 1123)."""


def _web_address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("write a web address, such as http://prometheus.monitoring:9090")
    return url.rstrip("/")


def _redis_address(url: str) -> str:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("write an address such as redis://redis.default:6379/0")
    return url


WebAddress = Annotated[str, AfterValidator(_web_address)]
Positive = Annotated[float, Field(gt=0.0)]


class Prometheus(StrictModel):
    """Where metrics are, and how they are asked for."""

    url: WebAddress
    window_s: Positive = 15.0
    """Range of every `rate` [s]: at least two scrape intervals, or there is nothing to subtract; longer is smoother and
    later. 15 s is for a scrape interval of 5 s."""
    timeout_s: Positive = 3.0
    """Longest wait for one answer [s]: estimate; a query of one namespace takes milliseconds."""
    own_latency_unit: Literal["s", "ms"] = "s"
    """Unit of the own latency's sum and buckets."""
    e2e_unit: Literal["s", "ms"] = "s"
    """Unit of the E2E latency's sum and buckets; Istio's are in milliseconds."""
    queries: dict[str, str] = Field(default_factory=dict)
    """Replaces queries of `QUERIES`, by name; "" leaves a measurement out."""

    @model_validator(mode="after")
    def _known_queries(self) -> Prometheus:
        for name in self.queries:
            if name not in QUERIES:
                raise key_error(f"queries.{name}", f"there is no query of this name; {nearest(name, QUERIES)}")
        return self

    def query(self, name: str, namespace: str, application: str) -> str:
        """The PromQL of one measurement, filled in; "" if it is left out."""
        text = self.queries.get(name, QUERIES[name])
        window = f"{self.window_s:g}s" if self.window_s == int(self.window_s) else f"{int(self.window_s * 1000)}ms"
        fill = {"$namespace": namespace, "$application": application, "$window": window}
        for placeholder, value in fill.items():
            text = text.replace(placeholder, value)
        return text


class Jaeger(StrictModel):
    """Where traces are, and how many are read."""

    url: WebAddress
    use: Literal["missing", "always"] = "missing"
    """Own latency comes from traces where Prometheus has no histogram ("missing"), or in any case ("always"). Spans are
    in the telemetry either way."""
    window_s: Positive = 15.0
    """Traces that began this long ago are read [s]."""
    delay_s: Annotated[float, Field(ge=0.0)] = 2.0
    """Traces younger than this are left for the next time, since spans of theirs may be missing still [s]; estimate,
    for exporters that send every second."""
    limit: int = Field(default=200, ge=1, le=5000)
    """Traces of one entry microservice that are read in one interval."""
    timeout_s: Positive = 3.0


class ReplicaRange(StrictModel):
    """Bounds of one microservice's replica count, inside those of all."""

    min: int = Field(ge=1)
    max: int = Field(ge=1)


class Safety(StrictModel):
    """What a controller may do at most. The numbers are estimates, chosen so that one wrong decision is survivable."""

    max_scale_out: Annotated[float, Field(gt=1.0)] = 2.0
    """One decision may multiply a replica count by this at most (by one container more in any case)."""
    max_scale_in_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """One decision may take away this share of a microservice's containers at most (one in any case)."""
    max_weight_change: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """One decision may move this share of a microservice's load from container to container at most."""
    max_age_s: Positive = 30.0
    """Telemetry that is older is stale: the last plan is held."""
    min_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Share of the ready containers whose latency or load must be known, or telemetry counts as partial."""
    freeze_after: int = Field(default=3, ge=1)
    """Control intervals in a row in which acting failed until the controller freezes."""
    thaw_after: int = Field(default=3, ge=1)
    """Healthy control intervals in a row until a frozen controller decides again."""
    upkeep_s: Positive = 1.0
    """Between two control intervals, time between looks for containers that are gone: they get no calls any more."""
    plan_expires_s: Positive = 30.0
    """Node agents take the rules out if the controller gives no sign of life for so long [s]."""


class Election(StrictModel):
    """Leader election by a Lease; the defaults are those of Kubernetes' own controllers (client-go: 15, 10 and 2 s)."""

    duration_s: Positive = 15.0
    """A leader that did not renew for so long may be replaced, by the clock of who waits."""
    deadline_s: Positive = 10.0
    """A leader that could not renew for so long stops acting."""
    retry_s: Positive = 2.0

    @model_validator(mode="after")
    def _in_order(self) -> Election:
        if not self.retry_s < self.deadline_s < self.duration_s:
            raise key_error("deadline_s", "must be more than retry_s and less than duration_s, or two may lead at once")
        return self


class LiveConfig(StrictModel):
    """One live run: which application, how it is measured, who decides, and what it may do."""

    application: Application
    """In the file: a name of `configs/applications/`, a path relative to the file, or the application itself."""
    namespace: Annotated[str, Field(pattern=rf"^{_NAME}$")]
    sla_ms: Positive
    """Target of the 95th percentile of the E2E latency of every request class [ms]."""
    agent: str = "imbres"
    """Name in `configs/agents/`, or a path relative to the file."""
    seed: int = Field(default=0, ge=0)
    control_interval_s: Positive = 5.0
    scaling_interval_s: Positive = 60.0
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=20, ge=1)
    replicas: dict[str, ReplicaRange] = Field(default_factory=dict)
    """Narrower bounds of single microservices."""
    connections_per_container: int = Field(default=10, ge=1)
    """Connection budget of a pair, per downstream container (Imbres section 6.1: ten)."""
    startup_s: Annotated[float, Field(ge=0.0)] = 5.0
    """Usual time from creation to readiness [s]: estimate."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that may run the application; all nodes without a taint if empty."""
    prometheus: Prometheus
    jaeger: Jaeger | None = None
    redis: str | None = None
    """Where the agent's performance table is kept, for `live doctor` to check; the agent's own options choose it."""
    safety: Safety = Safety()
    election: Election = Election()
    on_exit: Literal["restore", "keep"] = "restore"
    """Replica counts at the end: those found at the start, or those decided last. Connection plans always go."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of `/metrics` and `/healthz`; none if absent, any free one if 0."""

    @model_validator(mode="after")
    def _fits_together(self) -> LiveConfig:
        names = self.application.microservice_names
        for name in (self.application.name, *names):
            if not re.fullmatch(_NAME, name):
                hint = "use a-z, 0-9 and -, at most 63 letters"
                raise key_error("application", f"{name!r} cannot be a name in Kubernetes; {hint}")
        if self.min_replicas > self.max_replicas:
            raise key_error("min_replicas", f"{self.min_replicas} is more than max_replicas ({self.max_replicas})")
        for name, bounds in self.replicas.items():
            if name not in names:
                raise key_error(f"replicas.{name}", f"no microservice {name!r}; {nearest(name, names)}")
            if not self.min_replicas <= bounds.min <= bounds.max <= self.max_replicas:
                limits = f"min_replicas to max_replicas ({self.min_replicas} to {self.max_replicas})"
                raise key_error(f"replicas.{name}", f"{bounds.min} to {bounds.max} must be rising and inside {limits}")
        intervals = self.scaling_interval_s / self.control_interval_s
        if intervals < 1.0 - 1e-9 or abs(intervals - round(intervals)) > 1e-6:
            limit = f"a multiple of control_interval_s ({self.control_interval_s:g})"
            raise key_error("scaling_interval_s", f"{self.scaling_interval_s:g} must be {limit}")
        if self.safety.plan_expires_s < 2.0 * self.control_interval_s:
            raise key_error("safety.plan_expires_s", "must be at least two control intervals")
        if self.redis is not None:
            try:
                _redis_address(self.redis)
            except ValueError as error:
                raise key_error("redis", str(error)) from None
        return self

    def bounds_of(self, microservice: str) -> tuple[int, int]:
        """Least and most replicas of one microservice."""
        bounds = self.replicas.get(microservice)
        return (bounds.min, bounds.max) if bounds else (self.min_replicas, self.max_replicas)

    def with_scaling_interval(self, seconds: float) -> LiveConfig:
        """The same with another time between changes of replica counts, as an agent may want it.

        Raises:
            ConfigError: it is no multiple of the control interval.
        """
        data = {name: getattr(self, name) for name in type(self).model_fields} | {"scaling_interval_s": seconds}
        return validate(LiveConfig, data, "the agent's scaling_interval_s")


def load_live_config(path: str | Path) -> LiveConfig:
    """Read the configuration of a live run; names of files in it are relative to the file.

    Raises:
        ConfigError: no such file, or it is not valid; says which key, and what would be right.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    data = read_yaml(path)
    application = data.get("application")
    if isinstance(application, str):
        is_file = Path(application).suffix in {".yaml", ".yml"}
        try:
            data = {**data, "application": load_application(path.parent / application if is_file else application)}
        except ConfigError as error:
            raise ConfigError(f"{path}: application: {error}") from None
    agent = data.get("agent")
    if isinstance(agent, str) and Path(agent).suffix in {".yaml", ".yml"}:
        data = {**data, "agent": str(path.parent / agent)}
    return validate(LiveConfig, data, path)
