"""What the machine did beside a run while it was measured."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.domain.codec import from_data
from engine.domain.noise import MOST_DRIFT, MOST_OTHER_LOAD, RoundNoise, SeriesNoise
from pages.parts.charts.noise import series_noise
from pages.parts.charts.style import CHART_CONFIG
from pages.parts.format import percent, plural, significant
from pages.parts.theme import palette


def draw_noise(data: Any, _baseline: Any) -> None:
    noise = from_data(SeriesNoise, data)
    with st.container(border=True):
        st.markdown(f"**{_title(noise)}**")
        st.caption(_band(noise))
        st.plotly_chart(
            series_noise(noise, palette()), theme=None, key="noise", config=CHART_CONFIG,
            alt=f"Canary and other load in each of {len(noise.rounds)} rounds",
        )  # fmt: skip
        with st.expander("Each round"):
            st.dataframe([_row(noise, each) for each in noise.rounds], hide_index=True, row_height=34, key="noise_rounds")


def _title(noise: SeriesNoise) -> str:
    if not noise.disturbed:
        return f"Nothing disturbed the {plural(len(noise.rounds), 'round')}"
    causes = ", ".join(f"{name} in {count}" for name, count in noise.counts.most_common())
    word = "Noisy" if noise.is_noisy else "Quiet enough"
    return f"{word}: {noise.disturbed} of {plural(len(noise.rounds), 'round')} disturbed ({causes})"


def _band(noise: SeriesNoise) -> str:
    where = f"held to core {', '.join(map(str, noise.pinned))}" if noise.pinned else "on any core"
    fresh = f"{plural(noise.blocks, 'process', 'processes')} of each run, one after another"
    words = [f"Noise band ± {percent(noise.band, 1)}", fresh, f"{plural(noise.threads, 'thread')} {where}"]
    if noise.partner:
        apart = percent(abs(noise.partner.median - 1), 1)
        words.insert(1, f"the baseline's partner was {apart} apart from it")
    if noise.check:
        words.append(f"A/A check: {noise.check.verdict}, {significant(noise.check.ratio.median, 4)}×")
    return "; ".join(words) + "."


def _row(noise: SeriesNoise, each: RoundNoise) -> dict[str, object]:
    return {
        "Round": each.index + 1,
        "Canary, ms": f"{significant(each.canary_ms[0])} → {significant(each.canary_ms[1])}",
        f"Drift (limit {percent(MOST_DRIFT)})": percent(each.drift, 1),
        f"Other load, cores (limit {MOST_OTHER_LOAD:g})": significant(each.other_load, 2),
        "Stolen": percent(each.steal, 1),
        "Clock, MHz": significant(each.mhz) if each.mhz else "unknown",
        "Threads": each.threads,
        "Disturbed by": ", ".join(noise.disturbances(each)),
        "Repeated": "yes" if each.repeated else "",
    }
