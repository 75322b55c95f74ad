"""Share and export: a link a teammate can open, a report that works offline, the data."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import streamlit as st

from engine.domain.codec import as_data
from pages.parts.comparison import Comparison
from pages.parts.format import moment
from pages.parts.report import render_comparison
from pages.parts.shell import resources

_LIFETIMES = {"1 day": 1, "7 days": 7, "30 days": 30, "1 year": 365}


def actions(comparison: Comparison) -> None:
    """The page's buttons: Run more like this, Export, Share."""
    if st.button("Run more", icon=":material/add:", help="New recipes on this model", key="run_more"):
        st.switch_page("pages/new_experiment.py", query_params={"artifact": comparison.artifact.id})
    with st.popover("Export", icon=":material/download:"):
        _export(comparison)
    with st.popover("Share", icon=":material/link:", type="primary"):
        _share(comparison.experiment.id)


def _export(comparison: Comparison) -> None:
    name = f"speedrail-{comparison.experiment.id[:8]}"
    st.download_button(
        "Report (one HTML file)", data=lambda: render_comparison(comparison), file_name=f"{name}.html", mime="text/html",
        icon=":material/description:", on_click="ignore", width="stretch",
    )  # fmt: skip
    st.download_button(
        "Data (JSON)", data=lambda: _json(comparison), file_name=f"{name}.json", mime="application/json",
        icon=":material/data_object:", on_click="ignore", width="stretch",
    )  # fmt: skip


def _json(comparison: Comparison) -> str:
    return json.dumps(
        {
            "experiment": as_data(comparison.experiment),
            "artifact": as_data(comparison.artifact),
            "recommendation": comparison.recommendation.sentence,
            "runs": [as_data(row.run) for row in comparison.rows],
        },
        indent=2,
    )


def _share(experiment_id: str) -> None:
    """Make a link, see the ones there are, revoke them. The token is shown once: only its hash is stored."""
    shares = resources().storage.shares
    st.markdown("**Anyone with the link can see this comparison, and nothing else.**")
    lifetime = st.selectbox("Expires after", list(_LIFETIMES), index=1, key="share_lifetime")
    if st.button("Make a link", type="primary", key="make_link", width="stretch"):
        _, token = shares.create(experiment_id, datetime.now(UTC) + timedelta(days=_LIFETIMES[lifetime]))
        st.session_state[f"link-{experiment_id}"] = f"{_prefix()}/s/{token}"
    link = st.session_state.get(f"link-{experiment_id}")
    if link:
        st.code(link, language=None, wrap_lines=True)
        st.caption("Copy it now: only a hash of it is kept.")
    now = datetime.now(UTC)
    for share in shares.list(experiment_id):
        if share.revoked_at is None and share.expires_at > now:
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                st.caption(f"Made {moment(share.created_at)}, expires {moment(share.expires_at)}", width="content")
                if st.button("Revoke", key=f"revoke-{share.id}"):
                    shares.revoke(share.id)
                    st.session_state.pop(f"link-{experiment_id}", None)
                    st.rerun()


def _prefix() -> str:
    """Where a teammate reaches this dashboard: as set, else as this reader did."""
    settings = resources().settings
    if settings.public_url:
        return settings.public_url
    return str(st.context.url).split("/experiment")[0].rstrip("/") if st.context.url else f"http://{settings.bind}:{settings.port}"
