from __future__ import annotations

import sys
from pathlib import Path

# Worker processes import the fakes by name, as they would a third party's agent.
sys.path.insert(0, str(Path(__file__).parent))
