"""Numbers and user's words as the dashboard writes them.

Three significant digits, a unit always, a true minus sign: `4.36×`, `11.0 ms`,
`0.987`, `140 MB`, `−37.2`, `± 0.14`. `None` and NaN are an en dash.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.domain.metrics import METRICS, Measurement, Ratio

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
_TINY = 1e-9
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NARROW = 1e-4
"""Share of a value: an interval within it changes no digit that is shown."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&^=\"'])")


def significant(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits; whole numbers above keep all theirs, what is below a billionth gets a power of ten."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if abs(value) < _TINY:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.replace('-', MINUS)}·10{str(int(exponent)).translate(_RAISED)}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    whole = value if decimals == 0 else rounded
    return f"{whole:,.{decimals}f}".replace("-", MINUS).replace(",", "\N{NARROW NO-BREAK SPACE}")


def ratio(value: float | None) -> str:
    """A speedup: `4.36×`."""
    return MISSING if value is None or not math.isfinite(value) else f"{significant(value)}×"


def latency(milliseconds: float | None) -> str:
    """`11.0 ms`; from ten seconds on, `12.3 s`."""
    if milliseconds is None or not math.isfinite(milliseconds):
        return MISSING
    if abs(milliseconds) >= 10_000:
        return f"{significant(milliseconds / 1000)} s"
    return f"{significant(milliseconds)} ms"


def share(value: float | None, decimals: int = 3) -> str:
    """A quality or a share: `0.987`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.{decimals}f}".replace("-", MINUS)


def percent(fraction: float | None, decimals: int = 0) -> str:
    """`30 %` of the fraction 0.3."""
    if fraction is None or not math.isfinite(fraction):
        return MISSING
    return f"{100 * fraction:.{decimals}f} %".replace("-", MINUS)


def size(count: float | None) -> str:
    """Bytes in decimal units: `140 MB`."""
    if count is None or not math.isfinite(count):
        return MISSING
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while abs(value) >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{int(value)} bytes" if units[0] == "bytes" else f"{significant(value)} {units[0]}"


def count(number: int | None) -> str:
    """Parameters: `22.7 M`; below a thousand all digits."""
    if number is None:
        return MISSING
    value, units = float(number), ["", " k", " M", " B", " T"]
    while abs(value) >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{number}" if not units[0] else f"{significant(value)}{units[0]}"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 run`, `6 runs`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def signed(value: float | None, unit: str = "") -> str:
    """A difference: `−37.2`, `+3.10`; with a unit `−37.2 ms`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{'+' if value > 0 else ''}{significant(value)}{' ' + unit if unit else ''}"


def plus_minus(value: Measurement | Ratio | None) -> str:
    """Half the width of the interval or error band: `± 0.14`; empty where there is none."""
    if value is None or value.ci95 is None:
        return ""
    half = (value.ci95[1] - value.ci95[0]) / 2
    if 0 < half < _NARROW * abs(value.median):
        return "± < 0.01 %"
    return f"± {significant(half, 2)}" if math.isfinite(half) else ""


def duration(seconds: float | None) -> str:
    """`40 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{round(whole / 60)} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def value_of(metric: str, value: float | None) -> str:
    """A metric's value with its unit, as METRICS defines it."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    if unit == "ms":
        return latency(value)
    if unit == "bytes":
        return size(value)
    if unit == "ratio":
        return share(value)
    if unit == "share":
        return percent(value, 0 if value is not None and value >= 0.1 else 1)
    shown = significant(value)
    return shown if shown == MISSING or not unit else f"{shown} {unit}"


def moment(when: datetime | None, timezone: str | None = None) -> str:
    """`23 Nov 2026, 03:22` in the reader's time zone (an IANA name), UTC when it is unknown."""
    if when is None:
        return MISSING
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    try:
        local = aware.astimezone(ZoneInfo(timezone)) if timezone else aware.astimezone(UTC)
    except (ZoneInfoNotFoundError, ValueError):
        local = aware.astimezone(UTC)
    return f"{local.day} {local:%b %Y, %H:%M}"


def ago(when: datetime, now: datetime | None = None) -> str:
    """`just now`, `5 min ago`, `3 h ago`, `2 days ago`."""
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - aware).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    return f"{plural(int(seconds // 86400), 'day')} ago"


def plain(text: str) -> str:
    """A user's words for a place that reads Markdown: every mark is escaped, lines are joined.

    A word joiner after colons keeps Streamlit's `:material/…:` and emoji codes from
    being read in what a user typed.
    """
    one_line = " ".join(text.split())
    return _MARKDOWN.sub(r"\\\1", one_line).replace("\\:", "\\:\N{WORD JOINER}")
