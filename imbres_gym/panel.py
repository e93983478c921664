"""What is measured and remembered of a cluster, as one argument of a compiled function.

At every call numba unpacks each array of each argument, which takes longer than the work. A panel is unpacked when it
is made; it must be made anew when one of its arrays is replaced by another.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
from __future__ import annotations

from numba.experimental import structref

from imbres_gym.jit import HandleType, compiled


@structref.register
class _PanelType(HandleType):
    pass


class Panel(structref.StructRefProxy):
    """A handle on a `Measured`, a `Window` and features of critical paths (M, 3); only compiled code looks inside."""


structref.define_proxy(Panel, _PanelType, ["measured", "window", "critical_path"])


@compiled
def panel(measured, window, critical_path):
    """The panel of these."""
    return Panel(measured, window, critical_path)
