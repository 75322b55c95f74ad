"""Models: what do I have, and what can be done to it?"""

from __future__ import annotations

import streamlit as st

from pages.parts import model_detail, model_list


def render() -> None:
    artifact_id = st.query_params.get("id", "")
    if artifact_id:
        model_detail.show(artifact_id)
    else:
        model_list.show()


render()
