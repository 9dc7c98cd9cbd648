"""The scroll: all slices of the plane that a map is read in, one after another, as GIF or MP4.

Every frame has the same scale of colours and mm. A strip below the slice marks those that reach the threshold, and the
one in sight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_gradcam import words
from napari_gradcam.errors import GradCamError
from napari_gradcam.export.files import written_whole
from napari_gradcam.export.legend import scale_bar
from napari_gradcam.export.montage import one_slice, strength
from napari_gradcam.export.page import line_height
from napari_gradcam.export.painting import HeatStyle, paint
from napari_gradcam.export.picture import MARGIN, Frame, title
from napari_gradcam.export.tiles import Stack, reading_plane
from napari_gradcam.volumes.window import grey_limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner

MOST = 150
"""A scroll has no more frames than this; of more slices every second, third … is shown."""

_HOT, _COLD, _HERE = (255, 140, 0), (70, 70, 70), "white"
"""Colours of the strip: slices that reach the threshold, others, and the one in sight."""

_COLOURS, _COLOURFUL = 160, 12
"""So many of a GIF's 256 colours are no greys; and from which difference of red, green and blue on one is none."""

_STRIP = 8.0
"""Height of the strip in pixels."""


@dataclass(frozen=True)
class _Size:
    """How large a film is: the page's width, the longer side of a slice and its letters' room in pixels, and text."""

    width: float
    longest: float
    letters: float
    text: tuple[float, float, float]
    rate: int


GIF = _Size(620, 400, 26, (12.0, 9.0, 8.0), 12)
VIDEO = _Size(960, 720, 34, (16.0, 11.5, 10.0), 12)
"""A GIF is small, so that it can be sent by mail. Frames in a second come last."""


def scroll_unfit(explanation: Explanation) -> str:
    """Say in a sentence why there can be no scroll; "" where there can."""
    return one_slice(explanation, "scroll")


def video_unfit(explanation: Explanation) -> str:
    """Say in a sentence why there can be no MP4; "" where there can."""
    if find_spec("av") is None:
        return "MP4 needs PyAV, which is not installed: pip install 'napari-gradcam[video]', or take the GIF."
    return scroll_unfit(explanation)


def write_gif(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the scroll as an animated GIF that goes on for ever, whole or not at all.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    path
        The file.
    manner
        How it is painted and told.

    Raises
    ------
    GradCamError
        If there is one slice alone, the explanation has no scan, or the file cannot be written.
    """
    _refuse(scroll_unfit(explanation))
    film = Film(explanation, manner, GIF)
    palette = _palette(film)
    frames = [Image.fromarray(pixels).quantize(palette=palette, dither=Image.Dither.NONE) for pixels in film.frames()]
    with written_whole(path) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 / GIF.rate),
            loop=0,
            optimize=False,
            comment=f"{title(explanation)}. {words.PURPOSE}".encode(),
        )


def write_mp4(explanation: Explanation, path: Path, manner: Manner) -> None:
    """Write the scroll as MP4 that every browser plays (H.264, 4:2:0), whole or not at all.

    Parameters
    ----------
    explanation
        What :func:`napari_gradcam.explain` answered.
    path
        The file.
    manner
        How it is painted and told.

    Raises
    ------
    GradCamError
        If PyAV is not installed, there is one slice alone, the explanation has no scan, or the file cannot be written.
    """
    _refuse(video_unfit(explanation))
    import av

    film = Film(explanation, manner, VIDEO)
    with (
        written_whole(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        container.metadata["title"], container.metadata["comment"] = title(explanation), words.PURPOSE
        stream = container.add_stream("libx264", rate=VIDEO.rate, options={"crf": "20", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, "yuv420p"
        # Said, because players guess otherwise, and a colour is a value here.
        stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 1, 1
        stream.time_base = Fraction(1, VIDEO.rate)
        for pixels in film.frames():
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())


class Film:
    """The frames of a scroll.

    Parameters
    ----------
    explanation, manner
        What is shown, and how.
    size
        How large.
    """

    def __init__(self, explanation: Explanation, manner: Manner, size: _Size) -> None:
        self._stack = stack = Stack(explanation, manner)
        self._plane = plane = reading_plane(explanation)
        self._style = style = HeatStyle.of(explanation, manner)
        self._step = math.ceil(stack.count(plane) / MOST)
        self.numbers = range(0, stack.count(plane), self._step)
        sums, _ = strength(explanation, stack.axis(plane), manner.least(explanation))
        self.evidence = stack.in_order(plane, sums)
        tile = stack.tile(plane, 0)
        scale = size.longest / max(tile.size_mm)
        width, height = (mm * scale for mm in tile.size_mm)
        _, body, small = size.text
        head = 2 * line_height(body)
        tall = head + height + 2 * size.letters + 2 * _STRIP + line_height(small) + 8
        frame = Frame(explanation, manner, style, size.width, tall, sizes=size.text)
        self._page, top, left = frame.page, frame.top + head + size.letters, (size.width - width) / 2
        axes = self._page.axes(left, top, width, height)
        self._tile = paint(axes, tile, grey_limits(explanation.volume), style, body + 1)
        (self._caption,) = self._page.write(size.width / 2, frame.top, [" "], body, bold=True, align="center")
        strip_top = top + height + size.letters
        self._here = self._strip(MARGIN, strip_top, size.width - 2 * MARGIN)
        told = "orange: slices that reach the threshold" if self.evidence.any() else "no slice reaches the threshold"
        self._page.write(MARGIN, strip_top + 1.5 * _STRIP, [told], small)
        if self._step > 1:
            told = f"every {_ordinal(self._step)} slice is shown"
            self._page.write(size.width - MARGIN, strip_top + 1.5 * _STRIP, [told], small, align="right")
        if explanation.unit == "mm":
            scale_bar(self._page, MARGIN, strip_top - size.letters / 2, size.width / 2 - 50, scale, small)
        frame.finish()
        self.width, self.height = (int(n) // 2 * 2 for n in (self._page.width, self._page.height))

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Paint frame after frame, ``(rows, columns, 3)``; both even, as video wants them."""
        return self.painted(self.numbers)

    def painted(self, numbers: range | list[int]) -> Iterator[NDArray[np.uint8]]:
        """Paint some slices. What changes is painted over the rest, which takes a tenth of painting all."""
        changing = [self._tile.grey, self._tile.heat, self._caption, self._here]
        artists = [artist for artist in changing if artist is not None]
        for artist in artists:
            artist.set_animated(True)
        rest = self._page.backdrop()
        for number in numbers:
            self._page.lay(rest)
            self._show(number)
            for artist in artists:
                (artist.axes or self._page.figure).draw_artist(artist)
            yield self._page.seen()[: self.height, : self.width].copy()

    def _show(self, number: int) -> None:
        tile = self._stack.tile(self._plane, number)
        self._tile.grey.set_data(tile.grey)
        if self._tile.heat is not None and self._style is not None:
            self._tile.heat.set_data(self._style.painted(tile.heat))
        place = self._stack.position(self._plane, number)
        plane = self._plane.value.capitalize() if self._stack.volume.in_patient_space else ""
        said = [part for part in (plane, place, self._stack.numbered(self._plane, number)) if part]
        self._caption.set_text(", ".join(said))
        self._here.set_xdata([number + 0.5])

    def _strip(self, left: float, top: float, width: float) -> Any:
        """Draw which slices reach the threshold, and the mark of the one in sight."""
        axes = self._page.axes(left, top, width, _STRIP)
        axes.set_axis_off()
        colours = np.where((self.evidence > 0)[:, None], _HOT, _COLD).astype(np.uint8)
        axes.imshow(colours[None], extent=(0, len(colours), 0, 1), aspect="auto", interpolation="nearest")
        (here,) = axes.plot([0.5], [0.5], marker="|", markersize=14, markeredgewidth=2, color=_HERE, clip_on=False)
        return here


def _palette(film: Film) -> Image.Image:
    """Make the one palette of all frames, of those with the most heat and some that are spread evenly."""
    spread = list(film.numbers)[:: max(1, len(film.numbers) // 6)]
    hottest = sorted(film.numbers, key=lambda number: -film.evidence[number])[:6]
    pixels = np.concatenate([frame.reshape(-1, 3) for frame in film.painted([*spread, *hottest])])
    # Greys are many and colours are few: median cut would leave the colours, which are read as values, to a handful.
    colourful = pixels[np.ptp(pixels, axis=1) > _COLOURFUL]
    greys = np.repeat(np.linspace(0, 255, 256 - _COLOURS).round().astype(np.uint8)[:, None], 3, axis=1)
    chosen = [int(value) for value in greys.ravel()]
    if colourful.size:
        cut = Image.fromarray(colourful[None]).quantize(colors=_COLOURS, method=Image.Quantize.MEDIANCUT)
        chosen += (cut.getpalette() or [])[: 3 * _COLOURS]
    palette = Image.new("P", (1, 1))
    palette.putpalette(chosen)
    return palette


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _refuse(reason: str) -> None:
    if reason:
        raise GradCamError(reason)
