"""A drop zone that uploads in resumable slices, past Streamlit's own uploader.

`st.file_uploader` keeps whole files in the server's memory; this one never holds more
than a slice. The scripts are plain files beside this one, joined into one module.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from pages.http.tickets import TICKETS
from pages.http.uploads import SLICE_BYTES

Purpose = Literal["model", "dataset", "calibration"]
_HERE = Path(__file__).parent


@cache
def _component() -> Any:
    return st.components.v2.component(
        "speedrail_upload",
        html=(_HERE / "zone.html").read_text(),
        css=(_HERE / "zone.css").read_text(),
        js="\n".join((_HERE / name).read_text() for name in ("folder.js", "transfer.js", "zone.js")),
    )


def upload_zone(
    purpose: Purpose, label: str, hint: str, *, accept: str = "", folders: bool = False, primary: bool = False
) -> dict[str, str]:
    """Draw the zone; what the finish route answered when an upload has just ended, else empty.

    `primary`: its button is the page's filled one. `folders`: whole folders too, as a zip.
    """
    result = _component()(
        key=f"upload_{purpose}",
        data={
            "purpose": purpose,
            "ticket": _ticket(purpose),
            "label": label,
            "hint": hint,
            "accept": accept,
            "folders": folders,
            "primary": primary,
            "slice_bytes": SLICE_BYTES,
        },
        on_finished_change=lambda: None,
    )
    return dict(result.finished or {})


def _ticket(purpose: Purpose) -> str:
    """This session's ticket for its next upload; a new one when the last was used."""
    key = f"ticket_{purpose}"
    ticket: str = st.session_state.get(key, "")
    if not TICKETS.is_valid(ticket):
        ticket = st.session_state[key] = TICKETS.issue()
    return ticket
