"""Where a call's time goes, as an icicle: types of operators, then the operators themselves."""

from __future__ import annotations

import html
from collections import defaultdict

import plotly.graph_objects as go

from engine.compare.causes import is_product
from engine.domain.operators import OperatorProfile, OperatorTime
from pages.parts.charts.style import new_figure
from pages.parts.format import latency, percent
from pages.parts.theme import Palette

_MOST_OF_A_TYPE = 12
"""Operators drawn one by one; narrower ones could not be told apart."""


def icicle(profile: OperatorProfile, title: str, palette: Palette) -> go.Figure:
    """The whole call at the left, its types beside it, each with its longest operators; areas are times."""
    boxes = [("call", "", f"{html.escape(title)}, {latency(profile.total_ms)}", profile.total_ms, "")]
    for type_, operators in _by_type(profile):
        spent = sum(o.ms for o in operators)
        boxes.append((type_, "call", html.escape(type_), spent, f"{len(operators)} operators"))
        if len(operators) > 1:
            boxes += [(f"{type_}/{i}", type_, html.escape(o.name), o.ms, _told(o)) for i, o in enumerate(operators[:_MOST_OF_A_TYPE])]
            rest = operators[_MOST_OF_A_TYPE:]
            if rest:
                boxes.append((f"{type_}/rest", type_, f"{len(rest)} more", sum(o.ms for o in rest), ""))
    products = {o.type for o in profile.operators if is_product(o)}
    figure = new_figure(palette, x_title="", y_title="", height=420)
    figure.add_trace(
        go.Icicle(
            ids=[b[0] for b in boxes], parents=[b[1] for b in boxes], labels=[b[2] for b in boxes], values=[b[3] for b in boxes],
            branchvalues="total", tiling={"orientation": "h"}, pathbar={"visible": False},
            marker={"colors": [_colour(b[0], products, palette) for b in boxes], "line": {"color": palette.background, "width": 1}},
            customdata=[[latency(b[3]), percent(b[3] / profile.total_ms if profile.total_ms else 0, 1), b[4]] for b in boxes],
            texttemplate="%{label} %{customdata[1]}", textfont={"size": 12, "color": palette.text},
            hovertemplate="<b>%{label}</b><br>%{customdata[0]}, %{customdata[1]} of the call<br>%{customdata[2]}<extra></extra>",
        )
    )
    figure.update_layout(margin={"l": 0, "r": 0, "t": 8, "b": 0})
    return figure


def _by_type(profile: OperatorProfile) -> list[tuple[str, list[OperatorTime]]]:
    """Types with the most time first, and so their operators."""
    types: dict[str, list[OperatorTime]] = defaultdict(list)
    for operator in profile.operators:
        types[operator.type].append(operator)
    return sorted(types.items(), key=lambda item: -sum(o.ms for o in item[1]))


def _told(operator: OperatorTime) -> str:
    shapes = " · ".join(" × ".join(str(n) for n in shape) for shape in operator.shapes[:3])
    return html.escape(", ".join(filter(None, (operator.kernel, operator.precision, shapes))))


def _colour(id_: str, products: set[str], palette: Palette) -> str:
    """Products of matrices stand out: they are what most techniques make cheaper."""
    return palette.tint if id_.rpartition("/")[0] in products or id_ in products else palette.grid
