"""An application: microservices, stateful stores and the call tree of each request class.

One YAML file describes one application (`configs/applications/`, or a user's own file anywhere). The words are those
of the field: a *request class* is a kind of end-user request; its *call tree* says which operation calls which; the
children of a call come in *stages*, one after another, and the calls inside a stage run in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from imbres_gym.config import ConfigError, StrictModel, key_error, load_model, nearest

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


def _without_slash(name: str) -> str:
    """Refuse a name that a call (`name/operation`) could not hold."""
    if not name or "/" in name or any(letter.isspace() for letter in name):
        raise ValueError("a name must not be empty nor hold a slash or a space")
    return name


def _with_operation(call: str) -> str:
    """Refuse what is not `name/operation`."""
    name, _, operation = call.partition("/")
    if not name or not operation:
        raise ValueError("write the microservice or store and its operation, as in post-storage/ReadPosts")
    return call


Name = Annotated[str, AfterValidator(_without_slash)]
OperationName = Annotated[str, Field(min_length=1)]


class Sensitivity(StrictModel):
    """How strongly a microservice feels each kind of interference, as a multiplier of the shared model [-].

    1 is the median microservice that `imbres_gym/sim/effects.py` was calibrated on, 0 is immune.
    """

    cpu: NonNegative = 1.0
    memory_bandwidth: NonNegative = 1.0
    llc: NonNegative = 1.0
    network: NonNegative = 1.0


class Operation(StrictModel):
    """One operation (RPC method) of a microservice."""

    cpu_ms: Positive
    """Mean CPU demand of one call without interference [core-ms], spread evenly over the bursts between its stages."""
    demand_shape: Positive | None = None
    """Gamma shape of that demand: 1 is exponential, large is constant; `effects.demand_shape` if absent."""
    source: str = "estimate"
    """Where the number comes from; the word "estimate" if it was not measured."""


class Microservice(StrictModel):
    """A stateless microservice: what is scaled."""

    operations: dict[OperationName, Operation] = Field(min_length=1)
    cores: Positive | None = None
    """CPU quota of one container [cores]; the application's `container.cores` if absent."""
    memory_mb: Positive | None = None
    idle_cores: NonNegative = 0.0
    """CPU that an idle container uses all the time [cores]; it spends quota."""
    workers: int = Field(default=512, ge=1)
    """Requests that a container serves at once; each holds its worker while it waits for downstream calls. The default
    is what one caller of DeathStarBench opens at most: `connections` of its service-config.json, each a thread of the
    Thrift server."""
    accept_queue: int = Field(default=1024, ge=0)
    """Requests that wait for a worker; one more is rejected. Default: `DEFAULT_BACKLOG` of Thrift's TServerSocket."""
    parallelism: int = Field(default=64, ge=1)
    """Cores that a container can use at one moment (threads that run), whatever its quota. Default: an estimate that
    limits next to nothing: 64 cores spend a period's quota of the largest shipped container (4 cores) in 6 ms."""
    sensitivity: Sensitivity = Sensitivity()
    source: str = "estimate"


class Store(StrictModel):
    """A stateful store (database, cache) on infrastructure hosts: its calls cost latency, it is not scaled."""

    operations: dict[OperationName, Positive] = Field(min_length=1)
    """Mean latency of each operation as its caller sees it [ms]."""
    traced: bool = True
    """Whether calls are spans of their own; if not, their time counts as the caller's own latency."""
    source: str = "estimate"


class Call(StrictModel):
    """A node of a call tree: one call of `microservice/operation` or `store/operation`."""

    call: Annotated[str, AfterValidator(_with_operation)]
    stages: list[Annotated[list[Call], Field(min_length=1)]] = Field(default_factory=list)
    repeat: int = Field(default=1, ge=1)
    """How often the caller makes this call, one after another."""
    probability: Share = 1.0
    """Chance that the call is made at all: all its repetitions, or none."""

    @property
    def target(self) -> str:
        """The microservice or store that is called."""
        return self.call.split("/", 1)[0]

    @property
    def operation(self) -> str:
        """The operation that is called."""
        return self.call.split("/", 1)[1]

    def walk(self, visits: float = 1.0) -> Iterator[tuple[Call, float]]:
        """Yield every call of the tree with its expected number of executions per request."""
        visits = visits * self.repeat * self.probability
        yield self, visits
        for stage in self.stages:
            for child in stage:
                yield from child.walk(visits)


class RequestClass(StrictModel):
    """A kind of end-user request."""

    share: Share
    """Share of the application's workload [0-1]; the shares of all classes sum to 1."""
    tree: Call
    deadline_ms: Positive = 10_000.0
    """The client gives up after this time and counts a failure [ms]. Default: `timeout_ms` of DeathStarBench's
    service-config.json."""
    source: str = "estimate"


class ContainerSize(StrictModel):
    """Resources of one container."""

    cores: Positive
    memory_mb: Positive


class Application(StrictModel):
    """A microservice application, validated as a whole."""

    name: str
    description: str = ""
    source: str = "estimate"
    container: ContainerSize
    hop_ms: NonNegative
    """Round-trip RPC overhead of one call between containers: serialisation, network, dispatch [ms]."""
    client_spans: bool = True
    """Whether callers record a span for each RPC; if not, the hop counts as the caller's own latency."""
    span_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of an operation's CPU demand that is spent inside its span; the rest (framework, tracing, clean-up) uses
    quota after the answer has left, and delays only what comes later."""
    microservices: dict[Name, Microservice] = Field(min_length=1)
    stores: dict[Name, Store] = Field(default_factory=dict)
    request_classes: dict[Name, RequestClass] = Field(min_length=1)

    @field_validator("request_classes")
    @classmethod
    def _shares_sum_to_one(cls, classes: dict[str, RequestClass]) -> dict[str, RequestClass]:
        total = sum(request.share for request in classes.values())
        if abs(total - 1.0) > 1e-6:
            each = ", ".join(f"{name} {request.share:g}" for name, request in classes.items())
            raise ValueError(f"the shares sum to {total:.6g}, they must sum to 1 ({each})")
        return classes

    @model_validator(mode="after")
    def _calls_exist(self) -> Application:
        both = sorted(set(self.microservices) & set(self.stores))
        if both:
            raise key_error(f"stores.{both[0]}", "there is a microservice of that name too; rename one of them")
        for name, request in self.request_classes.items():
            key = f"request_classes.{name}.tree"
            if request.tree.target in self.stores:
                raise key_error(f"{key}.call", f"end users cannot call the store {request.tree.target!r}")
            self._check_call(request.tree, key)
        return self

    @model_validator(mode="after")
    def _idling_leaves_some_quota(self) -> Application:
        for name, service in self.microservices.items():
            if service.idle_cores >= self.cores_of(name):
                raise key_error(
                    f"microservices.{name}.idle_cores",
                    f"{service.idle_cores:g} leaves nothing of the quota of {self.cores_of(name):g} cores; lower it or "
                    "give the container more cores",
                )
        return self

    def _check_call(self, call: Call, key: str) -> None:
        if call.target in self.microservices:
            operations = list(self.microservices[call.target].operations)
        elif call.target in self.stores:
            operations = list(self.stores[call.target].operations)
            if call.stages:
                raise key_error(f"{key}.stages", f"{call.target!r} is a store, and a store calls nothing; remove them")
        else:
            hint = nearest(call.target, [*self.microservices, *self.stores])
            raise key_error(f"{key}.call", f"{call.call!r}: there is no microservice or store {call.target!r}; {hint}")
        if call.operation not in operations:
            hint = nearest(call.operation, operations)
            raise key_error(
                f"{key}.call", f"{call.call!r}: {call.target!r} has no operation {call.operation!r}; {hint}"
            )
        for i, stage in enumerate(call.stages):
            for j, child in enumerate(stage):
                self._check_call(child, f"{key}.stages.{i}.{j}")

    @property
    def microservice_names(self) -> tuple[str, ...]:
        """Names in the order of every per-microservice array."""
        return tuple(self.microservices)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of every per-class array."""
        return tuple(self.request_classes)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(upstream, downstream) microservice indices that call each other, sorted."""
        index = {name: i for i, name in enumerate(self.microservices)}
        found: set[tuple[int, int]] = set()
        for request in self.request_classes.values():
            for call, _ in request.tree.walk():
                for child in (child for stage in call.stages for child in stage):
                    if child.target in index:
                        found.add((index[call.target], index[child.target]))
        return tuple(sorted(found))

    @property
    def entries(self) -> tuple[int, ...]:
        """Indices of the microservices that end users call, sorted."""
        names = list(self.microservices)
        return tuple(sorted({names.index(r.tree.target) for r in self.request_classes.values()}))

    @property
    def called(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the microservices that requests of each class call, sorted."""
        index = {name: i for i, name in enumerate(self.microservices)}
        return tuple(tuple(sorted(index[called] for called in self.calls_of_class(name))) for name in self.class_names)

    def calls_per_request(self) -> dict[str, float]:
        """Expected calls of each microservice and store per end-user request of the mix."""
        calls = dict.fromkeys([*self.microservices, *self.stores], 0.0)
        for request in self.request_classes.values():
            for call, visits in request.tree.walk(request.share):
                calls[call.target] += visits
        return calls

    def has_spans(self, target: str) -> bool:
        """Whether calls of a microservice (always) or a store (if it is traced) have spans."""
        return target not in self.stores or self.stores[target].traced

    def calls_of_class(self, name: str) -> dict[str, float]:
        """Expected calls of each microservice, of those that are called at all, per request of one class."""
        calls: dict[str, float] = {}
        for call, visits in self.request_classes[name].tree.walk():
            if call.target in self.microservices and visits > 0.0:
                calls[call.target] = calls.get(call.target, 0.0) + visits
        return calls

    def cpu_ms_per_request(self) -> dict[str, float]:
        """Expected CPU demand on each microservice per end-user request of the mix [core-ms]."""
        demand = dict.fromkeys(self.microservices, 0.0)
        for request in self.request_classes.values():
            for call, visits in request.tree.walk(request.share):
                if call.target in demand:
                    demand[call.target] += visits * self.microservices[call.target].operations[call.operation].cpu_ms
        return demand

    def cores_of(self, microservice: str) -> float:
        """CPU quota of one container of `microservice` [cores]."""
        return self.microservices[microservice].cores or self.container.cores

    def memory_of(self, microservice: str) -> float:
        """Memory of one container of `microservice` [MB]."""
        return self.microservices[microservice].memory_mb or self.container.memory_mb


def load_application(reference: str | Path) -> Application:
    """Read an application by name (`configs/applications/NAME.yaml`) or from any YAML file.

    Raises:
        ConfigError: the file does not exist or is not a valid application; says which key, and what would be right.
    """
    return load_model(Application, "applications", reference)


__all__ = [
    "Application",
    "Call",
    "ConfigError",
    "ContainerSize",
    "Microservice",
    "Operation",
    "RequestClass",
    "Sensitivity",
    "Store",
    "load_application",
]
