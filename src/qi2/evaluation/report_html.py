"""The look of the static report: one page with inline style, pictures as data URIs, no scripts and no outside addresses."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.report_style import STYLE

EMBED_BYTES = 300_000  # larger pictures are scaled down, so that a report of large images stays one page one can send


def page(title: str, subtitle: str, cards: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The whole document; sections are (anchor, heading, body)."""
    links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections)
    body = "".join(f'<section><h2 id="{anchor}">{escape(heading)}</h2>{content}</section>' for anchor, heading, content in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><header><h1>{escape(title)}</h1>"
        f'<p class="soft">{subtitle}</p>{cards}</header><nav><div>{links}</div></nav><main>{body}</main></body></html>'
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "", right: Sequence[int] = ()) -> str:
    """A table of ready HTML cells; columns in ``right`` are set flush right."""

    def mark(index: int) -> str:
        return ' class="n"' if index in right else ""

    head = "".join(f"<th{mark(i)}>{cell}</th>" for i, cell in enumerate(headers))
    body = "".join("<tr>" + "".join(f"<td{mark(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def heat(headers: Sequence[str], rows: Sequence[tuple[str, Sequence[Figure | None]]]) -> str:
    """A table of figures from 0 on, each cell tinted by its value's share of 1, or of the largest where that is more; the interval is the cell's tooltip."""
    most = max([1.0, *(figure.value for _, figures in rows for figure in figures if figure is not None)])
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headers)
    body = "".join(f"<tr><td>{escape(name)}</td>{''.join(_heat_cell(figure, most) for figure in figures)}</tr>" for name, figures in rows)
    return f'<div class="scroll"><table class="heat"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _heat_cell(figure: Figure | None, most: float) -> str:
    if figure is None:
        return '<td class="v soft">–</td>'
    tint = f"color-mix(in srgb,var(--c0) {round(55 * max(figure.value, 0) / most)}%,transparent)"
    return f'<td class="v" style="background:{tint}" title="{_tooltip(figure)}">{figure.value:.2f}</td>'


def _tooltip(figure: Figure) -> str:
    return f"95% interval {figure.low:.2f} to {figure.high:.2f}, n = {figure.n}"


def card(label: str, value: str, note: str = "") -> str:
    """One headline number."""
    return f'<div class="card"><span>{escape(label)}</span><b>{value}</b><small>{note}</small></div>'


def number(figure: Figure | None, digits: int = 2, sign: bool = False) -> str:
    """``0.82 [0.76, 0.87]``, or a dash where nothing was measured."""
    if figure is None:
        return '<span class="soft">–</span>'
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{figure.value:{form}} {interval(figure, digits, sign)}"


def interval(figure: Figure, digits: int = 2, sign: bool = False) -> str:
    """``[0.76, 0.87]`` in small type; nothing for a number without sampling error."""
    form = f"{'+' if sign else ''}.{digits}f"
    return "" if figure.low == figure.high else f"<small>[{figure.low:{form}}, {figure.high:{form}}]</small>"


def missing(what: str, stage: str) -> str:
    """Says that a stage has not run; the report never fills a gap with anything else."""
    where = f"the stage <code>{escape(stage)}</code>, which has no result in this folder."
    return f'<p class="missing"><b>Not run.</b> {escape(what)} come from {where}</p>'


def picture(source: Path | Image.Image, caption: str = "", alt: str = "", longest: int = 512) -> str:
    """A figure with an embedded picture; ``caption`` is ready HTML."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img loading="lazy" src="{embed(source, longest)}" alt="{escape(alt)}">{below}</figure>'


def embed(source: Path | Image.Image, longest: int = 512) -> str:
    """A picture as data URI; files above EMBED_BYTES are scaled to at most ``longest`` pixels and sent as JPEG."""
    if isinstance(source, Path) and source.stat().st_size <= EMBED_BYTES:
        kind = "png" if source.suffix == ".png" else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(source.read_bytes()).decode()}"
    image = source if isinstance(source, Image.Image) else Image.open(source)
    buffer = io.BytesIO()
    image.convert("RGB").resize(_fit(image.size, longest)).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def mark(right: bool, wrong: Sequence[str] = ()) -> str:
    """A check mark, or a cross with the attributes that are wrong."""
    return '<span class="ok">✓</span>' if right else f'<span class="no">✗</span> {escape(", ".join(wrong))}'


def definition(pairs: Mapping[str, str]) -> str:
    """A two-column table of short facts; values are ready HTML."""
    return table(["", ""], [[f'<span class="soft">{escape(name)}</span>', value] for name, value in pairs.items()])


def _fit(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(longest / max(size), 1.0)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
