"""`python -m imbres_gym` is `imbres-gym`."""

from __future__ import annotations

from imbres_gym.cli import main

if __name__ == "__main__":
    main()
