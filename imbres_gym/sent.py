"""Exceptions on their way from a worker process to the one that asked."""

from __future__ import annotations

import pickle
import traceback


def sendable(error: Exception) -> Exception:
    """The exception that is being handled, its traceback as a note; a RuntimeError that says both if it has no pickle.

    Args:
        error: to be sent; gets the note.
    """
    told = traceback.format_exc()
    error.add_note(told)
    return error if _survives(error) else RuntimeError(told)


def _survives(error: Exception) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False
