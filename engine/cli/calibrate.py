"""`python -m engine calibrate`: what this host gives at best and how much it scatters."""

from __future__ import annotations

import sys

from engine.cli.output import check_destination, show
from engine.cli.waiting import say_who_holds
from engine.domain.calibration import Calibration
from engine.domain.codec import as_data
from engine.domain.experiment import Progress
from engine.execution.calibrating import calibrate as measure
from engine.execution.leash import Leash
from engine.execution.lock import HostLock
from engine.execution.scratch import scratch
from engine.settings import Settings
from storage import open_storage


def calibrate(settings: Settings, destination: str | None) -> int:
    """Measure, store as the host's calibration, print. Raises ChildError, InvalidInput."""
    check_destination(destination)
    storage = open_storage(settings)
    host = HostLock(settings.home)
    leash = Leash(lambda: False, settings.sandbox_level)
    with host.hold("calibration", say_who_holds()), scratch(settings) as place, leash:
        calibration = measure(leash, place, _tell)
    storage.hosts.calibrate(calibration)
    show(as_data(calibration), table(calibration), destination)
    return 0


def table(calibration: Calibration) -> str:
    """A line for each figure, with its unit."""
    lines = [("host", f"{calibration.host}, {calibration.environment.cpu}, {calibration.environment.cores} cores")]
    lines += [
        (
            f"peak {p.precision}, {_threads(p.threads)}",
            f"{p.per_second / 1e9:.1f} G{'' if p.precision == 'int8' else 'FL'}OP/s",
        )
        for p in calibration.peaks
    ]
    lines += [
        (f"memory read, {_threads(b.threads)}", f"{b.bytes_per_second / 1e9:.1f} GB/s") for b in calibration.bandwidths
    ]
    lines += [
        ("noise band", f"{calibration.noise_band:.1%} between equal processes ({calibration.pairs} pairs)"),
        ("canary", f"{calibration.canary_seconds * 1e3:.3g} ms"),
        *(("note", remark) for remark in calibration.remarks),
    ]
    return "\n".join(f"{name:24} {value}" for name, value in lines)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


_told: set[str] = set()


def _tell(progress: Progress) -> None:
    if progress.stage not in _told:
        _told.add(progress.stage)
        print(progress.stage, file=sys.stderr)
