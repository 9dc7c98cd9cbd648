"""The report: all there is to know, in order, and nothing of a stranger's text becomes markup."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_gradcam.export.manner import Manner
from napari_gradcam.export.report import report_html, write_report
from napari_gradcam.provenance import Asked, Model, Provenance
from napari_gradcam.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_gradcam.explanation import Explanation

MADE = Provenance(
    Model(
        name="two classes",
        version="1.2",
        source=Path("home") / "doe" / "bundle.zip",
        contents="a" * 64,
        weights="b" * 64,
        preprocessing=(
            {"name": "Orientationd", "axcodes": "RAS", "labels": None},
            {"name": "Spacingd", "pixdim": [3.0, 3.0]},
        ),
        activation="softmax",
        spatial_dims=3,
    ),
    Asked(target="lesion"),
    "cpu",
    seconds={"network": 0.5},
    versions={"torch": "2.13.0"},
)


class Reader(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._silent = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def made(explanation: Explanation) -> Explanation:
    return replace(explanation, provenance=MADE)


def test_it_says_everything_in_the_order_of_reading(made: Explanation) -> None:
    text = Reader(report_html(made, Manner())).text
    parts = (
        "For research and review, not for diagnosis.",
        "lesion probability 0.987",
        "Scan scan · two classes 1.2, weights bbbbbbbbbbbb",
        "What must be known",
        "The scan is made by hand.",
        "Scores",
        "no lesion 0.013 -2.1",
        "Heat map",
        "Hottest slices",
        "Hot spots",
        "1 0.083",
        "4.0, 6.0, 6.0",
        "Slice profile",
        "Card",
        "lesion · Grad-CAM at class_layers.relu",
        "cell 4.0 × 4.0 × 6.0 mm · painted from 0.0332 logit units (40 %, scale of this map)",
        "How it was made",
        "bundle.zip",
        "a" * 64,
        "Orientationd axcodes RAS",
        "Spacingd pixdim [3, 3]",
    )
    places = [text.find(part) for part in parts]
    assert -1 not in places, [part for part, place in zip(parts, places, strict=True) if place < 0]
    assert places == sorted(places)
    assert not re.search(r"\bdoe\b", text, re.IGNORECASE)


def test_the_same_explanation_gives_the_same_page(made: Explanation) -> None:
    assert report_html(made, Manner()) == report_html(made, Manner())


def test_nothing_is_fetched_and_nothing_runs(made: Explanation) -> None:
    page = report_html(made, Manner())
    reader = Reader(page)
    (policy,) = [meta["content"] for meta in reader.all("meta") if meta.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not {"script", "link", "iframe", "object", "a", "form"} & {tag for tag, _ in reader.tags}
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in reader.all("img"))
    assert not any(
        "style" in attributes or any(name.startswith("on") for name in attributes) for _, attributes in reader.tags
    )
    assert not re.search(r"https?:|url\(|@import", page)


def test_the_pictures_in_it_are_pictures(made: Explanation) -> None:
    images = Reader(report_html(made, Manner())).all("img")
    assert len(images) == 2
    for image in images:
        data = base64.b64decode((image["src"] or "").split(",")[1])
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size == (int(image["width"] or 0), int(image["height"] or 0))
        assert len(image["alt"] or "") > 20


EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}'


def test_a_stranger_s_text_is_text(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    volume = make_volume(name=EVIL, modality="<b>MR", source=(Path("<script>.dcm"),))
    model = replace(MADE.model, name=EVIL, version=EVIL, preprocessing=({"name": EVIL, EVIL: EVIL},))
    explanation = make_explanation(
        volume,
        target=EVIL,
        against="no lesion",
        signed=True,
        scores={EVIL: 0.9, "no lesion": 0.1},
        logits={EVIL: 1.0, "no lesion": 0.0},
        layer=EVIL,
        method=EVIL,
        notices=(EVIL,),
        provenance=replace(MADE, model=model, device=EVIL, versions={EVIL: EVIL}),
    )
    page = report_html(explanation, Manner())
    reader = Reader(page)
    assert not reader.all("script")
    assert len(reader.all("img")) == 2
    assert not reader.all("b")
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in reader.text


def test_headings_tables_and_language_are_there_for_a_screen_reader(made: Explanation) -> None:
    reader = Reader(report_html(made, Manner()))
    assert reader.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    tables, captions = len(reader.all("table")), len(reader.all("caption"))
    assert tables == captions == 3
    assert all(head.get("scope") in ("col", "row") for head in reader.all("th"))
    ids = {attributes["id"] for _, attributes in reader.tags if "id" in attributes}
    assert {attributes["aria-labelledby"] for _, attributes in reader.tags if "aria-labelledby" in attributes} <= ids


def test_positions_are_told_in_the_system_that_was_chosen(made: Explanation) -> None:
    text = Reader(report_html(made, Manner(system="LPS"))).text
    assert "x, y, z in LPS, mm" in text
    assert "-4.0, -6.0, 6.0" in text
    assert "x runs to the patient's left" in text


def test_hot_spots_have_the_instance_number_of_their_file(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    volume = make_volume(instances=tuple(range(301, 309)))
    text = Reader(report_html(make_explanation(volume), Manner())).text
    assert "Axial slice Instance 1 0.083" in text
    assert "3 306" in text


def test_a_2d_model_s_scores_stand_on_the_axis_of_the_profile(
    volume: Volume, make_explanation: Callable[..., Explanation]
) -> None:
    scores = np.linspace(0.1, 0.8, 8, dtype=np.float32)
    explanation = make_explanation(
        volume,
        plane="axial",
        slice_axis=2,
        slice_indices=range(8),
        slice_scores=np.stack([1 - scores, scores], axis=1),
    )
    reader = Reader(report_html(explanation, Manner()))
    (line,) = reader.all("polyline")
    heights = [float(point.split(",")[1]) for point in (line["points"] or "").split()]
    assert heights == sorted(heights)  # the last slice of the file is the first from the head, and most probable
    assert "“lesion” is most probable in slice 1, 0.800." in reader.text
    assert sum(bar.get("class") == "hot" for bar in reader.all("rect")) == 2  # one slice, and the key


def test_an_empty_map_says_so_above_all_else(empty: Explanation) -> None:
    reader = Reader(report_html(empty, Manner()))
    text = reader.text
    assert text.index("No positive evidence for this class: nothing is painted.") < text.index("Scores")
    assert text.count("No positive evidence for this class: nothing is painted.") >= 2
    assert "Hottest slices" not in text
    assert "Hottest point" not in text
    assert "without heat" in (reader.all("img")[0]["alt"] or "")


def test_a_plain_picture_is_told_in_pixels_and_has_no_montage(make_explanation: Callable[..., Explanation]) -> None:
    picture = Volume.of_picture(np.zeros((20, 30), np.uint8), "a photograph")
    heatmap = np.zeros((1, 20, 30), np.float32)
    heatmap[0, 5, 20] = 1
    explanation = make_explanation(picture, heatmap=heatmap, unit="pixels", in_patient_space=False)
    reader = Reader(report_html(explanation, Manner()))
    assert len(reader.all("img")) == 1
    assert "Row, column 1 1 " in reader.text
    assert "5, 20" in reader.text
    assert not re.search(r"\d mm|Slice profile", reader.text)


def test_deidentified_it_names_no_scan_file_or_folder(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]
) -> None:
    volume = make_volume(name="DOE T1", source=(Path("clinic") / "Doe_John" / "IM-0001.dcm",))
    explanation = make_explanation(
        volume,
        volume_name="DOE T1",
        notices=(
            "In “IM-0001.dcm” of Doe_John the slices of “DOE T1” are uneven.",
            "The scan of 2021-03-04 is 3.5° oblique.",
        ),
        provenance=MADE,
    )
    assert "IM-0001.dcm" in report_html(explanation, Manner())
    page = report_html(explanation, Manner(deidentified=True))
    without_pictures = re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"\bdoe\b|doe_|IM-0001|clinic|bundle\.zip", without_pictures, re.IGNORECASE)
    text = Reader(page).text
    assert "In “…” of … the slices of “…” are uneven." in text
    assert "The scan of … is 3.5° oblique." in text


def test_scores_that_are_no_numbers_leave_a_page(volume: Volume, make_explanation: Callable[..., Explanation]) -> None:
    broken = make_explanation(volume, scores={"lesion": float("nan"), "no lesion": 0.5})
    assert "nan" in Reader(report_html(broken, Manner())).text


def test_it_is_written_whole_in_utf_8(tmp_path: Path, made: Explanation) -> None:
    write_report(made, tmp_path / "report.html", Manner())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text("utf-8") == report_html(made, Manner())
