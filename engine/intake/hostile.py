"""Where bytes of strangers meet libraries: whatever those raise becomes an IntakeError."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from engine.domain.errors import IntakeError, SpeedrailError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def reading(what: str, *, mend: str, where: str = "") -> Iterator[None]:
    """Turn any failure inside into `IntakeError(what, mend)`; its cause goes to `detail`.

    Parsers fed with hostile bytes raise nearly anything (struct.error, IndexError,
    RecursionError, protobuf's own), so here, and only here, everything is caught. What
    is an IntakeError already, and a full disk, keep their own words.
    """
    try:
        yield
    except SpeedrailError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (*_FULL, errno.EFBIG):
            raise disk_problem(error) from error
        if isinstance(error, MemoryError):
            what, mend = "Reading this takes more memory than intake may use.", "Check that the file is what you meant."
        raise IntakeError(what, mend=mend, where=where, detail=f"{type(error).__name__}: {error}") from error


def disk_problem(error: OSError) -> IntakeError:
    """What to tell a person when the operating system refused to write."""
    detail = f"{type(error).__name__}: {error}"
    if error.errno in _FULL:
        return IntakeError(
            "The disk is full; nothing of this model was stored.",
            mend="Free some space (delete runs or models you no longer need), or set SPEEDRAIL_HOME to a larger disk.",
            detail=detail,
        )
    if error.errno == errno.EFBIG:
        return IntakeError(
            "A file is larger than intake may write.", mend="Raise SPEEDRAIL_MAX_UPLOAD_BYTES.", detail=detail
        )
    return IntakeError(
        "The files could not be read or written.", mend="Check permissions and the disk, then try again.", detail=detail
    )
