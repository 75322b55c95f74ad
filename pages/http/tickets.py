"""One-time tickets: a page hands one to its upload component, which starts one upload with it.

They live in this process. After a restart the page runs again and hands out new ones.
"""

from __future__ import annotations

import secrets
import threading
import time

TICKET_SECONDS = 12 * 3600
_LIMIT = 10_000


class TicketBook:
    """Issues and redeems tickets. Safe to share between threads."""

    def __init__(self) -> None:
        self._expiry: dict[str, float] = {}
        self._lock = threading.Lock()

    def issue(self) -> str:
        with self._lock:
            self._forget_old()
            ticket = secrets.token_urlsafe(24)
            self._expiry[ticket] = time.monotonic() + TICKET_SECONDS
            return ticket

    def is_valid(self, ticket: str) -> bool:
        with self._lock:
            return self._expiry.get(ticket, 0.0) > time.monotonic()

    def redeem(self, ticket: str) -> bool:
        """Whether the ticket was valid; it is not any more."""
        with self._lock:
            return self._expiry.pop(ticket, 0.0) > time.monotonic()

    def _forget_old(self) -> None:
        now = time.monotonic()
        live = [(t, e) for t, e in self._expiry.items() if e > now]
        self._expiry = dict(live[-_LIMIT + 1 :])


TICKETS = TicketBook()
"""Shared by the pages, which issue, and the upload route, which redeems."""
