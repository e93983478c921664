"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# The first call of a compiled function takes seconds: a limit of time for one example would fail by chance.
settings.register_profile("compiled", deadline=None)
settings.load_profile("compiled")
