"""A document for people who are not at the console: one self-contained page of HTML, or the same as a PDF.

Drawings are reportlab's own: as SVG within the page, as lines within the PDF.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Drawing
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase.pdfmetrics import registerFont, registerFontFamily
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from control_room.i18n import gettext, number, reader

# The browser takes its own font of this name from an SVG; in a PDF it is DejaVu, which has Greek and Cyrillic too.
FONT, BOLD = "sans-serif", "sans-serif-bold"
MARGIN = 48
WIDTH = int(A4[0]) - 2 * MARGIN
INK, MUTED, LINE, SHADE = "#16282c", "#5d7073", "#d5dfdd", "#f2f6f5"
TONES = {"good": "#0b6b67", "bad": "#a5281b", "attention": "#9a4a10", "plain": INK}
HTML_START = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 15px/1.45 system-ui, "Segoe UI", "Liberation Sans", sans-serif; color: #16282c; background: #fff;
  max-width: 800px; margin: 32px auto; padding: 0 24px; }}
.kicker {{ color: #5d7073; margin: 0; }} h1 {{ font-size: 25px; line-height: 1.25; margin: 4px 0 8px; }}
h2 {{ font-size: 17px; margin: 28px 0 6px; }} .note {{ color: #5d7073; margin: 4px 0; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13.5px; }}
th, td {{ text-align: left; vertical-align: top; padding: 5px 10px 5px 6px; border-bottom: 1px solid #d5dfdd;
  overflow-wrap: anywhere; }}
th {{ background: #f2f6f5; font-weight: 600; }} .n {{ text-align: right; font-variant-numeric: tabular-nums; }}
img {{ width: 100%; max-width: 700px; }} footer {{ color: #5d7073; margin-top: 32px; font-size: 13px; }}
section {{ break-inside: auto; }} h2, figure {{ break-after: avoid; }} tr, figure {{ break-inside: avoid; }}
figure {{ margin: 8px 0; }} @page {{ size: A4; margin: 16mm; }} @media print {{ body {{ margin: 0; padding: 0; }} }}
</style></head><body>"""


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    rows: Mapping[str, str]


@dataclass(frozen=True)
class Rows:
    """A table of texts; all columns but the first ``left`` are numbers."""

    frame: pd.DataFrame
    left: int = 1


@dataclass(frozen=True)
class Picture:
    drawing: Drawing
    alt: str


Block = Text | Facts | Rows | Picture


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """What is said first, in a tone of the console, then section by section; ``source``: from where it all comes."""

    kicker: str
    title: str
    more: str
    tone: str
    sections: Sequence[Section]
    source: str


# ---------------------------------------------------------------- HTML


def as_html(document: Document) -> bytes:
    head = HTML_START.format(language=reader().language, title=html.escape(document.kicker))
    parts = [
        head,
        f'<p class="kicker">{html.escape(document.kicker)}</p>',
        f'<h1 style="color:{TONES[document.tone]}">{html.escape(document.title)}</h1>',
        f"<p>{html.escape(document.more)}</p>",
        *(_section_html(section) for section in document.sections),
        f"<footer>{html.escape(document.source)}</footer></body></html>",
    ]
    return "\n".join(parts).encode()


def _section_html(section: Section) -> str:
    return f"<section><h2>{html.escape(section.title)}</h2>{''.join(map(_block_html, section.blocks))}</section>"


def _block_html(block: Block) -> str:
    if isinstance(block, Text):
        return f'<p class="note">{html.escape(block.text)}</p>'
    if isinstance(block, Facts):
        rows = (
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(said)}</td></tr>" for name, said in block.rows.items()
        )
        return f"<table>{''.join(rows)}</table>"
    if isinstance(block, Picture):
        return f'<figure><img alt="{html.escape(block.alt)}" src="{_svg_address(block.drawing)}"></figure>'
    return _rows_html(block)


def _svg_address(drawing: Drawing) -> str:
    svg = renderSVG.drawToString(_fonts_known(drawing))
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _rows_html(block: Rows) -> str:
    kinds = [' class="n"' if index >= block.left else "" for index in range(len(block.frame.columns))]
    head = "".join(f"<th{kind}>{html.escape(str(name))}</th>" for kind, name in zip(kinds, block.frame, strict=True))
    body = (
        "<tr>" + "".join(f"<td{kind}>{html.escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in _cells(block)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cells(block: Rows) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in block.frame.itertuples(index=False)]


# ---------------------------------------------------------------- PDF


@cache
def _register_fonts() -> None:
    """DejaVu, as it comes with matplotlib."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None
    folder = Path(str(found.origin)).parent / "mpl-data" / "fonts" / "ttf"
    for name, file in ((FONT, "DejaVuSans.ttf"), (BOLD, "DejaVuSans-Bold.ttf")):
        registerFont(TTFont(name, str(folder / file), asciiReadable=True))
    registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)


def _fonts_known(drawing: Drawing) -> Drawing:
    _register_fonts()
    return drawing


def _style(size: float, colour: str = INK, **more: Any) -> ParagraphStyle:
    font = more.pop("font", FONT)
    return ParagraphStyle("", fontName=font, fontSize=size, leading=size * 1.4, textColor=HexColor(colour), **more)


def as_pdf(document: Document) -> bytes:
    _register_fonts()
    buffer = io.BytesIO()
    pages = SimpleDocTemplate(
        buffer, pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN,
        title=document.kicker, subject=document.title, lang=reader().language,
    )  # fmt: skip
    opening = [
        _paragraph(document.kicker, _style(9, MUTED)),
        _paragraph(document.title, _style(16, TONES[document.tone], font=BOLD, spaceBefore=2, spaceAfter=6)),
        _paragraph(document.more, _style(9.5)),
    ]
    story = [*opening, *(part for section in document.sections for part in _section_pdf(section))]
    story += [Spacer(0, 18), _paragraph(document.source, _style(8, MUTED))]
    pages.build(story, onFirstPage=_numbered, onLaterPages=_numbered)
    return buffer.getvalue()


def _numbered(canvas: Any, _pages: Any) -> None:
    canvas.setFont(FONT, 8)
    canvas.setFillColor(HexColor(MUTED))
    canvas.drawRightString(
        A4[0] - MARGIN, MARGIN / 2, gettext("Page {number}").format(number=number(canvas.getPageNumber()))
    )


def _paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(html.escape(text), style)


def _section_pdf(section: Section) -> list[Flowable]:
    """A heading stays with what comes first below it."""
    heading = _paragraph(section.title, _style(11.5, font=BOLD, spaceBefore=14, spaceAfter=4))
    first, *rest = [_block_pdf(block) for block in section.blocks] or [Spacer(0, 0)]
    return [KeepTogether([heading, first]), *rest]


def _block_pdf(block: Block) -> Flowable:
    if isinstance(block, Text):
        return _paragraph(block.text, _style(8.5, MUTED, spaceAfter=3))
    if isinstance(block, Picture):
        return block.drawing
    if isinstance(block, Facts):
        rows = [
            [_paragraph(name, _style(8.5, MUTED)), _paragraph(said, _style(8.5))] for name, said in block.rows.items()
        ]
        return _grid(rows, [WIDTH * 0.28, WIDTH * 0.72], heading=False)
    return _rows_pdf(block)


def _rows_pdf(block: Rows) -> Flowable:
    left, right = _style(8.5), _style(8.5, alignment=TA_RIGHT)
    heads = _style(8.5, font=BOLD), _style(8.5, font=BOLD, alignment=TA_RIGHT)
    head = [_paragraph(str(name), heads[index >= block.left]) for index, name in enumerate(block.frame)]
    body = [
        [_paragraph(cell, right if index >= block.left else left) for index, cell in enumerate(row)]
        for row in _cells(block)
    ]
    return _grid([head, *body], _widths(block), heading=True)


def _widths(block: Rows) -> list[float]:
    """Columns share the page by the length of what they hold, within bounds."""
    longest = [
        max(len(str(name)), *(len(row[index]) for row in _cells(block) or [[""] * 99]))
        for index, name in enumerate(block.frame)
    ]
    shares = [min(max(length, 11), 34) for length in longest]
    return [WIDTH * share / sum(shares) for share in shares]


def _grid(rows: list[list[Paragraph]], widths: list[float], heading: bool) -> Table:
    lines = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, HexColor(LINE)),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
    ]
    if heading:
        lines.append(("BACKGROUND", (0, 0), (-1, 0), HexColor(SHADE)))
    return Table(rows, colWidths=widths, repeatRows=int(heading), style=TableStyle(lines), hAlign="LEFT")
