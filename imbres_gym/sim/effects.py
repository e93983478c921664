"""What interference, quota and connections do to a container: the constants of the simulated world, with their source.

"Erms" are the measured latency surfaces of Social Network and Hotel Reservation in the artifact of Erms (ASPLOS'23);
`scripts/validate_latency.py` shows how well the calibrated constants predict them. "Estimate" is what it says.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imbres_gym.config import StrictModel

NonNegative = Annotated[float, Field(ge=0.0)]


class Effects(StrictModel):
    """The shared model of interference, quota and connections; a scenario may override any constant.

    A microservice's `sensitivity` multiplies the interference terms.
    """

    delay_exponent: NonNegative = 2.6
    """A thread that wakes up has to wait for a CPU with the chance `u_cpu ** delay_exponent`: calibrated on Erms."""
    delay_ms: NonNegative = 3.5
    """Mean of such a wait [ms], exponential; it spends no quota: calibrated on Erms."""
    preemption_per_ms: NonNegative = 2.0
    """A running thread is preempted at this rate per core-ms, times the same chance: calibrated on Erms."""
    stretch_cpu: NonNegative = 0.25
    """CPU demand is multiplied by `1 + stretch_cpu * u_cpu + ...`, and spends quota: calibrated on Erms, whose data go
    up to 40 % CPU interference: error 0.37, against 0.41 with 0, 0.40 with 0.5 and 0.48 with 1."""
    stretch_memory_bandwidth: NonNegative = 0.2
    """iBench memBw on memcached: p95 x 0.9-1.5, near the capacity of one of three machines 2.3; capacity 93-99 % (three
    measurements, ibench_memcached.csv, medians over the repeats); 1.5-2.2 times for PARSEC jobs, the upper end of what
    is plausible. Chosen within: estimate."""
    stretch_llc: NonNegative = 0.3
    """iBench llc on memcached: capacity 60-96 %, p95 x 0.9-2.8 (same source); 1.8-2.9 times for PARSEC jobs. Chosen
    within: estimate."""
    network_limit: float = Field(default=0.95, gt=0.0, lt=1.0)
    """Messages take `1 / (1 - u_network)` times as long (estimate: M/M/1 on the link), utilisation cut off here."""
    period_ms: float = Field(default=100.0, gt=0.0)
    """CFS bandwidth period [ms]: the default of Linux, cpu.cfs_period_us."""
    slack_ms: NonNegative = 1.0
    """CPU time that a CPU keeps of the quota when the container's thread there goes idle [ms]: Linux
    min_cfs_rq_runtime. With n bursts in progress, `slack_ms * (cpus - n)` of a period's quota is out of reach."""
    cpus: NonNegative = 3.3
    """CPUs that a container's threads are spread over: calibrated on Erms."""
    wake_loss_ms: NonNegative = 0.075
    """Quota lost when a thread blocks and wakes up again, on the CPU that it left [ms]: calibrated on Erms."""
    demand_shape: float = Field(default=5.5, gt=0.0)
    """Gamma shape of the CPU demand of a burst: 1 is exponential, large is constant; calibrated on Erms."""
    store_shape: float = Field(default=9.0, gt=0.0)
    """Gamma shape of the latency of a store call: median over the eight kinds of store spans in the 20 traces that
    DeathStarBench ships (ms_collecter/trace.csv); between 3 and 58."""
    connection_cost: NonNegative = 0.31
    """CPU demand grows by `connection_cost * (n / 500) ** connection_exponent` with n open connections (mean of
    incoming and outgoing): Imbres, +31 % at 500 downstream containers (Fig. 11(a)), and full connection +18 % against
    partial one at 200 (section 2.1.1)."""
    connection_exponent: NonNegative = 0.59

    def connection_factor(self, connections: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factor on the CPU demand of containers with so many open connections, see `connection_cost`."""
        return np.asarray(1.0 + self.connection_cost * (connections / 500.0) ** self.connection_exponent)
