"""What interference and connections do to a container: the constants of the simulated world, each with its source."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imbres_gym.config import StrictModel

NonNegative = Annotated[float, Field(ge=0.0)]


class Effects(StrictModel):
    """The shared model of interference, quota and connections; a scenario may override any constant.

    A microservice's `sensitivity` multiplies the interference terms.
    """

    delay_ms: NonNegative = 0.35
    """Scale of the mean scheduling delay of one CPU burst [ms]; see `delay_growth`."""
    delay_growth: NonNegative = 7.0
    """The mean delay of a burst is `delay_ms * (exp(delay_growth * u_cpu) - 1)`: additive, convex, spends no quota."""
    stretch_cpu: NonNegative = 0.5
    """CPU demand is multiplied by `1 + stretch_cpu * u_cpu + ...`: neighbours on shared core pipelines; spends quota."""
    stretch_memory_bandwidth: NonNegative = 0.3
    stretch_llc: NonNegative = 0.3
    network_limit: float = Field(default=0.95, gt=0.0, lt=1.0)
    """Messages take `1 / (1 - u_network)` times as long, with the utilisation cut off here: estimate (M/M/1 on the link)."""
    period_ms: float = Field(default=100.0, gt=0.0)
    """CFS bandwidth period [ms] (Linux default, cpu.cfs_period_us)."""
    demand_shape: float = Field(default=1.0, gt=0.0)
    """Gamma shape of the CPU demand of a burst: 1 is exponential, large is constant."""
    connection_cost: NonNegative = 0.31
    """CPU demand grows by `connection_cost * (n / 500) ** connection_exponent` with n open connections
    (mean of incoming and outgoing): Imbres Fig. 11(a), +31 % at 500 and +18 % at 200 downstream containers."""
    connection_exponent: NonNegative = 0.59
