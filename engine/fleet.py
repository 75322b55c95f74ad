"""The team's hosts: which of them are alive, and which has what an experiment needs. Torch-free.

What is compared must be measured on one host in one block, so a whole experiment goes to
one host: any that can run all of its recipes, or the one that can run most of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.domain.artifact import Artifact, ModelCard
from engine.domain.errors import StageError
from engine.domain.host import HostFacts
from engine.domain.recipe import Recipe
from engine.host import code, this_host
from engine.plan import make_plan, on_a_runtime
from engine.settings import Settings
from storage import Storage

ALIVE_FOR = timedelta(seconds=60)
"""A host that was silent so long is taken for dead."""
WEIGHT_COPIES = 3
"""A run needs memory for about so many copies of the model: loaded, rewritten, and the baseline beside it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where an experiment is planned for. `queue_host` is empty when any living host will do."""

    host: HostFacts
    queue_host: str = ""


def living_hosts(storage: Storage) -> tuple[HostFacts, ...]:
    """Hosts with a worker that is alive, this one always among them and first."""
    now = datetime.now(UTC)
    beats = [beat.facts for beat in storage.hosts.list() if now - beat.at <= ALIVE_FOR]
    others = {facts.name: facts for facts in beats if facts.name != this_host().name}
    return (this_host(), *(others[name] for name in sorted(others)))


def choose_host(
    recipes: Sequence[Recipe], artifact: Artifact, hosts: Sequence[HostFacts], models: Mapping[str, ModelCard] | None = None
) -> Choice:
    """The host that can run most of the recipes; the first of equals.

    When all can run equally many, the experiment waits in the queue that everybody serves.
    """
    able = {host.name: _runnable(recipes, artifact, host, models) for host in hosts}
    best = max(hosts, key=lambda host: able[host.name])
    anybody = len(set(able.values())) == 1
    return Choice(best, "" if anybody else best.name)


def demand_same_code(storage: Storage) -> None:
    """What one queue hands out is done alike everywhere. Raises StageError naming a living host whose worker is another Speedrail."""
    now, own = datetime.now(UTC), this_host().name
    for beat in storage.hosts.list():
        if beat.host != own and now - beat.at <= ALIVE_FOR and beat.facts.code not in ("", code()):
            raise StageError(
                f"The worker on {beat.host} is another version of Speedrail than this one on {own}.",
                mend=f"Install the same version on both; a worker that was stopped is forgotten after {ALIVE_FOR.seconds} s.",
            )  # fmt: skip


def demand_files(artifact: Artifact, storage: Storage, settings: Settings) -> None:
    """Raises StageError when this host cannot read the model that it is to run."""
    if not storage.files.exists(artifact.id):
        raise StageError(
            f"{this_host().name} does not have the files of {artifact.name}: they are not in {settings.artifacts_url}.",
            mend="Start its worker with the --artifacts-url of the host that took the model in (a folder or an object store that both "
            "reach), or take the model in again if it was deleted; then repeat the run.",
        )  # fmt: skip


def _runnable(recipes: Sequence[Recipe], artifact: Artifact, host: HostFacts, models: Mapping[str, ModelCard] | None) -> int:
    """How many recipes this host can run; none when the model does not fit its memory."""
    if WEIGHT_COPIES * artifact.size_bytes > host.memory_bytes:
        return 0
    return sum(make_plan(on_a_runtime(recipe, artifact.card, host, models), artifact.card, host, models).runs for recipe in recipes)
