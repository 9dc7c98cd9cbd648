"""The report: one HTML page that holds all it shows, for a screen, for paper and for a screen reader.

It needs no script and no other file, and asks for none: its Content-Security-Policy allows the pictures in it and the
one style sheet in it, by its hash. Names and sentences of strangers are text in it, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import io
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from napari_gradcam import words
from napari_gradcam.export import card, report_facts
from napari_gradcam.export.files import written_whole
from napari_gradcam.export.montage import choose, montage_page, montage_unfit, said
from napari_gradcam.export.picture import overlay_page, title
from napari_gradcam.export.report_chart import chart_of
from napari_gradcam.export.tiles import Stack, reading_plane

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Template

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner
    from napari_gradcam.export.page import Page

TEMPLATE, STYLE = "report.html.j2", "report.css"
"""Files beside this one."""


def report_html(explanation: Explanation, manner: Manner) -> str:
    """Write the report.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    manner
        How it is painted and told; it may leave out all that names the scan.

    Returns
    -------
    str
        An HTML page: class and score, what must be known, scores, pictures, hot spots, slice profile, card, provenance.
        The same explanation gives the same page.

    Raises
    ------
    GradCamError
        If the explanation has no scan, or is not of it.
    """
    stack, plane = Stack(explanation, manner), reading_plane(explanation)
    several = not montage_unfit(explanation)
    chosen = choose(stack, explanation, manner)
    style = _read(STYLE)
    return _template().render(
        title=title(explanation),
        target=explanation.target,
        against=explanation.against,
        probability=words.probability(explanation.scores[explanation.target]),
        scan="" if manner.deidentified else explanation.volume_name,
        model=card.model(explanation),
        purpose=words.PURPOSE,
        nothing=card.nothing(explanation, manner),
        notices=card.notices(explanation, manner),
        facts=report_facts.finding(explanation),
        scores=report_facts.scores(explanation),
        overlay=_picture(overlay_page(explanation, manner, bare=True)),
        overlay_said=report_facts.overlay_alt(explanation, manner),
        montage=_picture(montage_page(explanation, manner, bare=True)) if several else "",
        montage_said=said(chosen, stack),
        spots=report_facts.spots(explanation, manner, stack, plane),
        chart=chart_of(explanation, manner, stack, plane) if several else None,
        card=card.card(explanation, manner),
        provenance=report_facts.provenance(explanation, manner),
        preprocessing=report_facts.preprocessing(explanation),
        deidentified=manner.deidentified,
        style=Markup(style),  # ours; a style sheet has no escapes
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


def write_report(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the report, whole or not at all; see :func:`report_html`.

    Raises
    ------
    GradCamError
        As :func:`report_html`, and if the file cannot be written.
    """
    text = report_html(explanation, manner)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _picture(page: Page) -> dict[str, object]:
    """Give a picture as a data URI, with its size in pixels so that the page does not jump when it is decoded."""
    stream = io.BytesIO()
    page.save(stream, title="", description=words.PURPOSE)
    data = base64.b64encode(stream.getvalue()).decode()
    return {"uri": f"data:image/png;base64,{data}", "width": int(page.width), "height": int(page.height)}


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_read(TEMPLATE))


def _read(name: str) -> str:
    return resources.files("napari_gradcam.export").joinpath(name).read_text("utf-8")
