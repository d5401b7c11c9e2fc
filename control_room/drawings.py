"""Charts for paper: figures of the evidence as reportlab drawings, in the colours of the console's light theme."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from reportlab.graphics.shapes import Circle as Dot
from reportlab.graphics.shapes import Drawing, Group, Line, Polygon, Rect, Shape, String
from reportlab.lib.colors import Color, HexColor

from control_room.charts import LIGHT
from control_room.i18n import day, percent
from control_room.paper import FONT, WIDTH
from control_room.words import MODEL_NAMES, segment, word
from ml.records import Decision, Segment

INK, MUTED, LINE = HexColor(LIGHT.text), HexColor("#5d7073"), HexColor("#d5dfdd")
BETTER, OTHER = HexColor(LIGHT.model), HexColor(LIGHT.rival)
PALE = Color(11 / 255, 107 / 255, 103 / 255, 0.18)
LEFT = 150  # room for names


def _text(x: float, y: float, text: str, anchor: str = "middle", size: float = 8, colour: Color = INK) -> String:
    return String(x, y, text, fontName=FONT, fontSize=size, fillColor=colour, textAnchor=anchor)


class Scale:
    """Values to places on the paper."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        margin = (high - low or 1.0) * 0.08
        self.low, self.high, self.start, self.end = low - margin, high + margin, start, end

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def gain_drawing(decision: Decision) -> Drawing | None:
    """The gain with its interval beside zero and the least gain asked for; None where nothing was compared."""
    if decision.gain is None or decision.gain_low is None or decision.gain_high is None:
        return None
    bound = next((item.bound for item in decision.gates if item.name == "min_gain" and item.bound is not None), None)
    scale = Scale([0.0, decision.gain_low, decision.gain_high, bound or 0.0], 20, WIDTH - 20)
    drawing = Drawing(WIDTH, 66)
    marks: list[Shape] = [Line(20, 30, WIDTH - 20, 30, strokeColor=LINE)]
    for value in {0.0, bound or 0.0}:
        marks += [
            Line(scale.at(value), 16, scale.at(value), 52, strokeColor=MUTED, strokeDashArray=[2, 2]),
            _text(scale.at(value), 6, percent(value, signed=bool(value)), colour=MUTED),
        ]
    low, mid, high = (scale.at(value) for value in (decision.gain_low, decision.gain, decision.gain_high))
    marks += [
        Rect(low, 25, high - low, 10, fillColor=PALE, strokeColor=BETTER, strokeWidth=0.8),
        _diamond(mid, 30, 5, BETTER),
        _text(mid, 56, percent(decision.gain, signed=True), size=9),
        _text(low - 4, 41, percent(decision.gain_low, signed=True), "middle", colour=MUTED),
        _text(high + 4, 41, percent(decision.gain_high, signed=True), "middle", colour=MUTED),
    ]
    return _drawn(drawing, marks)


def _drawn(drawing: Drawing, marks: Sequence[Shape]) -> Drawing:
    for mark in marks:
        drawing.add(mark)
    return drawing


def _diamond(x: float, y: float, size: float, colour: Color) -> Polygon:
    points = [x - size, y, x, y + size, x + size, y, x, y - size]
    return Polygon(points, fillColor=colour, strokeColor=None)


def weekly_drawing(weeks: Sequence[tuple[str, float]]) -> Drawing:
    """A bar per week: up where the challenger's error was smaller, down where it was larger."""
    drawing = Drawing(WIDTH, 130)
    scale = Scale([0.0, *(gain for _, gain in weeks)], 24, 116)
    step = (WIDTH - 20) / len(weeks)
    zero = scale.at(0.0)
    named = max(1, -(-len(weeks) // 8))
    marks: list[Shape] = []
    for index, (week, gain) in enumerate(weeks):
        x = 10 + index * step
        top = scale.at(gain)
        ink = BETTER if gain >= 0 else OTHER
        marks.append(Rect(x + step * 0.2, min(zero, top), step * 0.6, abs(top - zero), fillColor=ink, strokeColor=None))
        if len(weeks) <= 16:
            marks.append(_text(x + step / 2, top + (3 if gain >= 0 else -9), percent(gain, 0, signed=True), size=7))
        if index % named == 0:
            marks.append(_text(x + step / 2, 4, day(dt.date.fromisoformat(week)), size=7, colour=MUTED))
    return _drawn(drawing, [*marks, Line(10, zero, WIDTH - 10, zero, strokeColor=MUTED, strokeWidth=0.8)])


def segments_drawing(segments: Sequence[Segment]) -> Drawing:
    """WAPE of challenger (diamond) and champion (circle) per segment; further left is better."""
    shown = [model for model in ("challenger", "champion", "seasonal_naive") if any(model in s.wape for s in segments)]
    height = 34 + 18 * len(segments)
    drawing = Drawing(WIDTH, height)
    values = [item.wape[model] for item in segments for model in shown if model in item.wape]
    scale = Scale(values, LEFT + 20, WIDTH - 30)
    marks: list[Shape] = []
    for index, item in enumerate(segments):
        y = height - 14 - 18 * index
        marks += [
            Line(LEFT, y, WIDTH - 10, y, strokeColor=LINE),
            _text(LEFT - 6, y - 3, _short(segment(item)), "end"),
            *(_mark(model, scale.at(item.wape[model]), y) for model in shown if model in item.wape),
        ]
    marks += [_text(scale.at(value), 16, percent(value), size=7, colour=MUTED) for value in (min(values), max(values))]
    return _drawn(drawing, [*marks, *_legend(shown)])


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


def _mark(model: str, x: float, y: float) -> Shape:
    if model == "challenger":
        return _diamond(x, y, 4.5, OTHER)
    if model == "champion":
        return Dot(x, y, 4, fillColor=BETTER, strokeColor=None)
    cross = Group()
    for sign in (-1, 1):
        cross.add(Line(x - 3, y - 3 * sign, x + 3, y + 3 * sign, strokeColor=MUTED, strokeWidth=1.2))
    return cross


def _legend(shown: Sequence[str]) -> list[Shape]:
    marks: list[Shape] = []
    for index, model in enumerate(shown):
        x = LEFT + 10 + 110 * index
        marks += [_mark(model, x, 5), _text(x + 9, 2, word(MODEL_NAMES, model), "start", colour=MUTED)]
    return marks
