"""The scroll, as programs that are not ours open it: Pillow the GIF, PyAV (FFmpeg) the video."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_gradcam.errors import GradCamError
from napari_gradcam.export import scroll
from napari_gradcam.export.manner import Manner
from napari_gradcam.export.scroll import GIF, Film, scroll_unfit, video_unfit, write_gif, write_mp4
from napari_gradcam.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_gradcam.explanation import Explanation


def colour(pixels: np.ndarray) -> int:
    """Count the pixels of the slice in colour: what lies above the strip and the legend."""
    upper = np.asarray(pixels)[150:450].astype(int)
    return int((np.ptp(upper, axis=2) > 40).sum())


@pytest.fixture
def gif(tmp_path: Path, explanation: Explanation) -> Path:
    write_gif(explanation, tmp_path / "scroll.gif", Manner())
    return tmp_path / "scroll.gif"


def test_pillow_reads_every_slice_once_in_order_and_heat_in_one_alone(gif: Path) -> None:
    with Image.open(gif) as film:
        assert film.format == "GIF"
        assert film.n_frames == 8
        assert film.info["loop"] == 0
        assert (
            film.info["comment"] == "“lesion”: probability 0.987. For research and review, not for diagnosis.".encode()
        )
        shown = []
        for number in range(film.n_frames):
            film.seek(number)
            shown.append(colour(np.asarray(film.convert("RGB"))))
    assert [count > 100 for count in shown] == [number == 2 for number in range(8)]  # S 6.0 mm is the third from above
    assert gif.stat().st_size < 400_000


def test_a_gif_keeps_the_colours_of_the_scale(gif: Path, explanation: Explanation) -> None:
    film = Film(explanation, Manner(), GIF)
    (true,) = film.painted([2])
    with Image.open(gif) as opened:
        opened.seek(2)
        seen = np.asarray(opened.convert("RGB"))[: film.height, : film.width].astype(int)
    coloured = np.ptp(true.astype(int), axis=2) > 40
    assert np.abs(seen[coloured] - true[coloured]).max() < 24


def test_ffmpeg_plays_the_video_as_browsers_need_it(tmp_path: Path, explanation: Explanation) -> None:
    av = pytest.importorskip("av", reason="MP4 needs PyAV, the extra “video”")
    write_mp4(explanation, tmp_path / "scroll.mp4", Manner())
    with av.open(str(tmp_path / "scroll.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == stream.height % 2 == 0
        assert container.metadata["comment"] == "For research and review, not for diagnosis."
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 8
    counts = [int((np.ptp(frame[200:700].astype(int), axis=2) > 40).sum()) for frame in frames]
    assert int(np.argmax(counts)) == 2
    data = (tmp_path / "scroll.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded


def test_of_very_many_slices_some_are_shown_and_the_frames_say_so(
    make_volume: Callable[..., Volume], make_explanation: Callable[..., Explanation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scroll, "MOST", 15)
    film = Film(make_explanation(make_volume(shape=(6, 7, 40))), Manner(), GIF)
    assert list(film.numbers) == list(range(0, 40, 3))
    assert "every third slice is shown" in [text.get_text() for text in film._page.figure.texts]


def test_a_map_without_evidence_scrolls_without_heat_and_says_so(tmp_path: Path, empty: Explanation) -> None:
    write_gif(empty, tmp_path / "scroll.gif", Manner())
    with Image.open(tmp_path / "scroll.gif") as film:
        assert film.n_frames == 8
        assert colour(np.asarray(film.convert("RGB"))) == 0


def test_a_picture_does_not_scroll(tmp_path: Path, make_explanation: Callable[..., Explanation]) -> None:
    picture = Volume.of_picture(np.zeros((20, 30), np.uint8), "a photograph")
    explanation = make_explanation(picture, unit="pixels", in_patient_space=False)
    assert scroll_unfit(explanation).startswith("The picture is one slice, of which there is no scroll")
    with pytest.raises(GradCamError, match="one slice"):
        write_gif(explanation, tmp_path / "scroll.gif", Manner())
    assert not list(tmp_path.iterdir())


def test_without_pyav_it_is_said_what_to_install(
    tmp_path: Path, explanation: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scroll, "find_spec", lambda _name: None)
    assert "pip install 'napari-gradcam[video]'" in video_unfit(explanation)
    with pytest.raises(GradCamError, match="MP4 needs PyAV"):
        write_mp4(explanation, tmp_path / "scroll.mp4", Manner())
