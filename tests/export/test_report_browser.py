"""The report and the video in a real browser: a headless Chromium shows, measures, prints and plays them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_gradcam.export.manner import Manner
from napari_gradcam.export.report import write_report
from napari_gradcam.export.scroll import write_gif, write_mp4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Volume

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

PROBE = """<script>
addEventListener("load", () => {
  const page = document.documentElement, images = [...document.images];
  const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide, svg, .hidden")
    && (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1));
  const cut = [...document.querySelectorAll("svg[role=img] text")].filter(t => {
    const box = t.getBoundingClientRect(), frame = t.ownerSVGElement.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  });
  parent.postMessage({width: innerWidth, scroll: page.scrollWidth, images: images.map(i => i.naturalWidth),
    wide: wide.map(e => e.outerHTML.slice(0, 200)), cut: cut.map(t => t.textContent),
    paper: getComputedStyle(document.body).backgroundColor}, "*");
});
</script>"""

FRAME = """<!DOCTYPE html><body style="margin:0"><pre></pre><script>
addEventListener("message", event => { document.querySelector("pre").textContent = JSON.stringify(event.data); });
</script><iframe src="probed.html" style="border:0;width:{width}px;height:900px"></iframe>"""


def chromium(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    sandbox = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    assert CHROMIUM is not None
    return subprocess.run(
        [
            *(CHROMIUM, "--headless", *sandbox, "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *(f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--no-first-run", *options),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def console(run: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in run.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def report(tmp_path: Path, make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation]) -> Path:
    """Give a page with all there can be: long names, many hot spots, instance numbers, the scores of slices."""
    volume = make_volume(shape=(30, 36, 24), name="a_scan_with_a_very_long_name_" * 4, instances=tuple(range(101, 125)))
    generator = np.random.default_rng(1)
    heatmap = np.zeros(volume.shape, np.float32)
    for i, j, k in generator.integers(2, 22, (40, 3)):
        heatmap[i, j, k] = generator.uniform(-1, 1)
    names = ("lesion", "no lesion", "a_class_with_a_name_that_does_not_end_" * 3)
    explanation = make_explanation(
        volume,
        heatmap=heatmap,
        signed=True,
        scores=dict(zip(names, (0.7, 0.2, 0.1), strict=True)),
        logits=dict(zip(names, (2.0, 1.0, 0.0), strict=True)),
        layer="features.denseblock4.denselayer16.layers.relu2" * 2,
        plane="axial",
        slice_axis=2,
        slice_indices=range(24),
        slice_scores=generator.random((24, 3), dtype=np.float32),
        volume_name=volume.name,
        notices=("A sentence that goes on and on. " * 8, "Another."),
    )
    write_report(explanation, tmp_path / "report.html", Manner())
    return tmp_path / "report.html"


def test_it_looks_like_a_page_and_the_console_stays_silent(tmp_path: Path, report: Path) -> None:
    shot = tmp_path / "shot.png"
    run = chromium(tmp_path, "--window-size=1200,2400", f"--screenshot={shot}", report.as_uri())
    assert console(run) == []
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert len(picture.convert("RGB").getcolors(pixels.size) or ()) > 100
    assert pixels.shape == (2400, 1200, 3)
    assert (pixels[:, 5] == 255).all()  # paper at the edge: light is the default, and nothing lies over it
    black = (pixels.sum(axis=2) == 0).mean(axis=1)
    assert (black > 0.5).sum() > 300  # the pictures are there


@pytest.mark.parametrize("width", [1200, 390])
def test_all_pictures_decode_and_nothing_is_wider_than_the_window(tmp_path: Path, report: Path, width: int) -> None:
    page = re.sub(r"<meta http-equiv[^>]*>", "", report.read_text("utf-8"))
    (tmp_path / "probed.html").write_text(page.replace("</body>", f"{PROBE}</body>"), "utf-8")
    (tmp_path / "frame.html").write_text(FRAME.replace("{width}", str(width)), "utf-8")
    run = chromium(tmp_path, "--dump-dom", "--virtual-time-budget=5000", (tmp_path / "frame.html").as_uri())
    match = re.search(r"<pre>(\{.*?\})</pre>", run.stdout)
    assert match, run.stdout[:500]
    seen: dict[str, Any] = json.loads(unescape(match[1]))
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["images"] == [1500, 1500]
    assert seen["wide"] == []
    assert seen["cut"] == []


def test_dark_is_dark_and_paper_is_light_all_the_same(tmp_path: Path, report: Path) -> None:
    dark = "--blink-settings=preferredColorScheme=0"
    shot, paper = tmp_path / "dark.png", tmp_path / "paper.pdf"
    chromium(tmp_path, dark, "--window-size=800,600", f"--screenshot={shot}", report.as_uri())
    with Image.open(shot) as picture:
        assert max(picture.convert("RGB").getpixel((3, 300))) < 40
    chromium(tmp_path, dark, "--no-pdf-header-footer", f"--print-to-pdf={paper}", report.as_uri())
    assert paper.read_bytes().startswith(b"%PDF-")
    if shutil.which("pdftoppm") is None:
        pytest.skip("the pages need pdftoppm: apt-get install poppler-utils")
    subprocess.run(["pdftoppm", "-r", "20", "-png", paper, tmp_path / "page"], check=True)
    pages = sorted(tmp_path.glob("page-*.png"))
    assert 3 <= len(pages) <= 9
    for page in pages:
        with Image.open(page) as picture:
            assert picture.convert("RGB").getpixel((3, 3)) == (255, 255, 255)


def test_the_printed_pages_say_all_and_split_no_row(tmp_path: Path, report: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("the text of a PDF needs pdftotext: apt-get install poppler-utils")
    paper = tmp_path / "paper.pdf"
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}", report.as_uri())
    text = subprocess.run(["pdftotext", "-layout", paper, "-"], capture_output=True, text=True, check=True).stdout
    for part in ("For research and review", "What must be known", "Hot spots", "Slice profile", "Card"):
        assert part in text
    ranks = [int(match) for match in re.findall(r"^\s*(\d+)\s+-?[\d.]+\s+(?:< )?\d+ ?%", text, re.MULTILINE)]
    assert ranks == list(range(1, 21))


PLAYER = """<!DOCTYPE html><pre></pre><img src="scroll.gif"><video src="scroll.mp4" muted></video><script>
const video = document.querySelector("video"), image = document.querySelector("img");
video.addEventListener("loadeddata", () => { document.querySelector("pre").textContent =
  JSON.stringify([video.videoWidth, Math.round(video.duration * 12), image.naturalWidth]); });
</script>"""


def test_a_browser_plays_the_scroll(tmp_path: Path, explanation: Explanation) -> None:
    pytest.importorskip("av", reason="MP4 needs PyAV, the extra “video”")
    write_gif(explanation, tmp_path / "scroll.gif", Manner())
    write_mp4(explanation, tmp_path / "scroll.mp4", Manner())
    (tmp_path / "player.html").write_text(PLAYER, "utf-8")
    run = chromium(tmp_path, "--dump-dom", "--virtual-time-budget=8000", (tmp_path / "player.html").as_uri())
    match = re.search(r"<pre>(\[.*?\])</pre>", run.stdout)
    assert match, run.stdout[:500]
    assert json.loads(match[1]) == [960, 8, 620]
