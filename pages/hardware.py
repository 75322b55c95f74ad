"""Hardware: what can this and other hardware do?"""

from __future__ import annotations

from pages.parts import catalogue, fleet, would_do
from pages.parts.shell import page_header


def render() -> None:
    page_header("Hardware")
    fleet.this_host()
    would_do.show()
    fleet.hosts()
    catalogue.show()


render()
