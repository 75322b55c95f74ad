"""The operators of an artifact, found once in a sandboxed child and kept in the file store. Torch-free.

The dashboard projects with them and never loads torch; they are found when somebody
first asks for a projection of an artifact under a workload, because a trace holds for
one batch and length only, which intake does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from engine.domain.artifact import Artifact
from engine.domain.codec import as_data, decode, encode, from_data
from engine.domain.workload import Workload
from engine.execution.leash import Leash
from engine.execution.lock import HostLock
from engine.execution.scratch import scratch
from engine.hardware.operators import Network
from engine.host import this_host
from engine.requests import OperatorsRequest
from engine.sandbox import Limits
from engine.settings import Settings
from storage import Storage

TRACE_SECONDS = 600.0
FILE = "operators.json"
VERSION = "1"
"""Raise it when tracing finds other operators than before."""


def traced(artifact: Artifact, workload: Workload, storage: Storage, rewrites: str = "") -> Network | None:
    """What was found before, if it was."""
    key = _key(artifact, workload, rewrites)
    if not storage.files.exists(key):
        return None
    return decode(Network, (storage.files.local_path(key) / FILE).read_text())


def trace(
    artifact: Artifact, workload: Workload, storage: Storage, settings: Settings, wait: Callable[[str], None],
    rewrites: str = "",
) -> Network:  # fmt: skip
    """Find and keep them. Holds the host, because loading torch would disturb a measurement.

    rewrites: a recipe that changes the model's shapes (see engine.hardware.scenarios).
    Raises StageError when the model cannot be rewritten or traced, ChildError, and what `wait` raises.
    """
    found = traced(artifact, workload, storage, rewrites)
    if found is not None:
        return found
    directory = storage.files.local_path(artifact.id)
    threads = this_host().cores if rewrites else 1
    with HostLock(settings.home).hold("projection", wait), scratch(settings) as place, Leash(lambda: False, settings.sandbox_level) as leash:
        child = leash.start(
            "operators", readable=[directory], writable=[place], limits=Limits.of_host(wall_seconds=TRACE_SECONDS),
            log=place / "child.log", threads=threads,
        )  # fmt: skip
        try:
            made = place / "rewritten"
            made.mkdir()
            request = as_data(OperatorsRequest(str(directory), artifact.card, workload, rewrites, str(made), this_host(), threads))
            answer = child.ask({"request": request}, timeout=TRACE_SECONDS, tick=leash.check)
        finally:
            leash.end(child)
        network = from_data(Network, answer)
        kept = place / "kept"
        kept.mkdir()
        (kept / FILE).write_text(encode(network))
        storage.files.put_directory(_key(artifact, workload, rewrites), kept, move=True)
    return network


def _key(artifact: Artifact, workload: Workload, rewrites: str = "") -> str:
    shape = [workload.batch_size, workload.sequence_length, workload.new_tokens, workload.image_size]
    return hashlib.sha256(json.dumps(["operators", VERSION, artifact.id, shape, rewrites]).encode()).hexdigest()
