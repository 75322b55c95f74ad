"""Fresh, isolated, limited child processes that talk JSON lines (worker side, torch-free)."""

from engine.sandbox.child import Child
from engine.sandbox.limits import Limits
from engine.sandbox.start import DEVICE, HOSTS, LEVELS, RANKS, start_child

__all__ = ["DEVICE", "HOSTS", "LEVELS", "RANKS", "Child", "Limits", "start_child"]
