"""All arrays of an episode as one argument of a compiled function.

At every call numba unpacks each array of each argument; for the hundred of a step that takes a quarter of the step. A
bundle is unpacked when it is made, as long as no array is replaced by another.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
from __future__ import annotations

from numba.experimental import structref

from imbres_gym.jit import HandleType
from imbres_gym.sim.fluid.compiled import allocating

FIELDS = (
    "model",
    "kinds",
    "fleet",
    "rows",
    "factor",
    "slots",
    "streams",
    "utilisation",
    "work",
    "tally",
    "latency",
    "microservice_p95",
    "e2e",
    "measured",
)
"""As in `FluidEpisode` and its topology; the model is the engine's, `measured` the cluster's."""


@structref.register
class _BundleType(HandleType):
    pass


class Bundle(structref.StructRefProxy):
    """A handle; only compiled code looks inside."""


structref.define_proxy(Bundle, _BundleType, list(FIELDS))


@allocating
def bundle(
    model, kinds, fleet, rows, factor, slots, streams, utilisation, work, tally, latency, of_microservice, e2e, measured
):
    """The bundle of these, in the order of `FIELDS`."""
    return Bundle(
        model,
        kinds,
        fleet,
        rows,
        factor,
        slots,
        streams,
        utilisation,
        work,
        tally,
        latency,
        of_microservice,
        e2e,
        measured,
    )


@allocating
def relink(episode, rows, factor):
    """Put other links of the same containers, and what their connections cost, into a bundle."""
    episode.rows, episode.factor = rows, factor
