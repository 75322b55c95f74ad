"""Every error Speedrail raises on purpose.

    SpeedrailError            what happened, what to do; exit code 1
    ├── InvalidInput          the user's words or files are off; exit code 2
    │   ├── RecipeError       a recipe that does not parse or has a bad knob
    │   └── IntakeError       bytes that cannot become an artifact
    ├── NotFound              an id that names nothing here
    ├── StageError            a technique or runtime could not do its work
    │   └── NothingChanged    a stage ran and the model is the same as before
    ├── ToolError             a compiler, simulator or synthesis tool is missing or failed
    ├── ChildError            a child process died, overran its limits or said nonsense
    ├── Cancelled             somebody asked for the end
    └── StorageError          the database or the artifact store refused

An error carries data, not prose alone: the dashboard, the command line and the
database render the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class SpeedrailError(Exception):
    """Root of all errors meant for a person.

    `what` says what is wrong, `mend` what to do about it, `where` names the place
    (a file, a knob, a stage) and `detail` holds what a developer wants to see.
    """

    exit_code = 1

    def __init__(self, what: str, *, mend: str = "", where: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend
        self.where = where
        self.detail = detail

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f" {self.mend}" if self.mend else ""
        return f"{place}{self.what}{remedy}"

    def as_problem(self) -> Problem:
        return Problem(type(self).__name__, self.what, self.mend, self.where, self.detail)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as data: what crosses processes and is stored with a run."""

    kind: str
    what: str
    mend: str = ""
    where: str = ""
    detail: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f" {self.mend}" if self.mend else ""
        return f"{place}{self.what}{remedy}"

    def as_error(self) -> SpeedrailError:
        """The exception this problem was made from (the root class if it is unknown)."""
        known: dict[str, type[SpeedrailError]] = {c.__name__: c for c in _all_errors(SpeedrailError)}
        return known.get(self.kind, SpeedrailError)(
            self.what, mend=self.mend, where=self.where, detail=self.detail
        )

    @staticmethod
    def from_json(data: dict[str, Any]) -> Problem:
        return Problem(**{k: str(v) for k, v in data.items()})


class InvalidInput(SpeedrailError):
    """What the user gave cannot be used."""

    exit_code = 2


class RecipeError(InvalidInput):
    """A recipe that does not parse, names an unknown word or has a knob out of range."""


class IntakeError(InvalidInput):
    """Bytes that cannot become an artifact."""


class NotFound(InvalidInput):
    """An id that names nothing in this installation."""


class StageError(SpeedrailError):
    """A technique or a runtime could not do its work on this model."""


class NothingChanged(StageError):
    """A stage ran to its end and left the model as it was: a failure, not a result."""


class ToolError(SpeedrailError):
    """A tool outside Python (compiler, simulator, synthesis) is missing, failed or overran its time."""


class ChildError(SpeedrailError):
    """A child process died, overran a limit or broke the protocol."""


class Cancelled(SpeedrailError):
    """The run or experiment was cancelled on request."""


class StorageError(SpeedrailError):
    """The database or the artifact store could not do what was asked."""


def _all_errors(root: type[SpeedrailError]) -> list[type[SpeedrailError]]:
    return [root, *(e for child in root.__subclasses__() for e in _all_errors(child))]
