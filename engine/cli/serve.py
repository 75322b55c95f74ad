"""`python -m engine serve`: the dashboard, with a sample model ready on the first start."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

from engine.intake.places import samples
from engine.settings import Settings
from storage import Storage, open_storage
from storage.views import IntakeJob

_APP = Path(__file__).parents[2] / "app.py"


def serve(settings: Settings) -> NoReturn:
    """Become the dashboard's server, where `settings` say."""
    storage = open_storage(settings)
    _offer_sample(storage)
    storage.close()
    options = {
        "server.address": settings.bind, "server.port": settings.port, "server.headless": "true",
        "browser.gatherUsageStats": "false", "server.fileWatcherType": "none",
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in options.items()]
    os.chdir(_APP.parent)
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(_APP), *flags])


def _offer_sample(storage: Storage) -> None:
    """A home that never held a model gets the first sample; the worker finds the job and takes it in."""
    if storage.artifacts.list(limit=1).total or storage.intakes.recent(1):
        return
    for sample in samples()[:1]:
        storage.intakes.create(IntakeJob(uuid4().hex, sample.title, str(sample.path), "sample", datetime.now(UTC)))
