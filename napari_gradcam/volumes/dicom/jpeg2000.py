"""JPEG 2000 by imagecodecs, as a plugin of pydicom's decoders.

Of the decoders that Python has of it, this one alone lets other threads run while it decodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000, JPEG2000Lossless

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

LABEL = "imagecodecs"
"""What the plugin is called."""

DECODER_DEPENDENCIES = {JPEG2000: ("imagecodecs",), JPEG2000Lossless: ("imagecodecs",)}
"""What pydicom says is needed where the plugin cannot be used."""


def is_available(uid: str) -> bool:
    """Tell pydicom whether the plugin decodes a transfer syntax."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one picture; what the numbers are stored in follows from the precision, as with pylibjpeg."""
    from imagecodecs import jpeg2k_decode

    picture = jpeg2k_decode(src)
    if runner.photometric_interpretation in (PhotometricInterpretation.YBR_ICT, PhotometricInterpretation.YBR_RCT):
        runner.set_option("photometric_interpretation", PhotometricInterpretation.RGB)
    runner.set_option("bits_allocated", picture.dtype.itemsize * 8)
    decoded: bytes = picture.astype(picture.dtype.newbyteorder("<"), copy=False).tobytes()
    return decoded


def install() -> None:
    """Let pydicom know of the plugin."""
    for decoder in map(get_decoder, DECODER_DEPENDENCIES):
        if LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, decode_frame.__name__))
