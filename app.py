"""The dashboard: one ASGI application of Streamlit pages and a few HTTP routes.

Serve it with `python -m engine serve` (or `streamlit run app.py`). Streamlit runs this
file again for every interaction; `main` then draws the page that the address names.
"""

from __future__ import annotations

import streamlit as st

from pages.http.site import site
from pages.parts.navigation import navigate

app = st.App(__file__, routes=site().routes, middleware=site().middleware, lifespan=site().lifespan)


def main() -> None:
    navigate().run()


if __name__ == "__main__":
    main()
