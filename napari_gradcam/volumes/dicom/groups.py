"""Where the tags of a picture stand: in the image itself, or in the functional groups of an Enhanced file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_gradcam.volumes.dicom.header import Header


def frame_count(header: Header) -> int:
    """Give Number of Frames (0028,0008), 1 where it is absent, empty or zero."""
    return int(header.get("NumberOfFrames") or 1)


def frames_of(header: Header) -> Iterator[Groups]:
    """Give each frame's functional groups (PS3.3 C.7.6.16); of a classic image, the image itself."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    count = frame_count(header)
    if not 1 <= count <= _most_frames(header):
        raise GradCamError(f"“{header.path}” says {count:,} frames and cannot hold them: copy or export it again.")
    if not per_frame:
        for _ in range(count):
            yield Groups((header,), classic=True, placed=count == 1)
        return
    if len(per_frame) != count:
        raise GradCamError(f"“{header.path}” says {count} frames but places {len(per_frame)}: export it again.")
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    for own in per_frame:
        yield Groups((own, *shared[:1]), classic=False)


def _most_frames(header: Header) -> int:
    """Give how many pictures the pixels of a file can be at most, before a number in the header is believed."""
    pixels = header.pixels
    if pixels is None or pixels.is_encapsulated:
        return pixels.fragments if pixels else 1
    bits = int(header.get("Rows")) * int(header.get("Columns")) * int(header.get("BitsAllocated") or 1)
    return max(pixels.length * 8 // bits, 1)  # one that is too short is refused when it is read


@dataclass(frozen=True)
class Groups:
    """Where a frame's tags stand: in its own functional groups first, then in those it shares."""

    places: tuple[Any, ...]
    classic: bool
    placed: bool = True
    """Whether the position of the file is that of the frame."""

    def get(self, group: str, keyword: str) -> Any:
        """Give a value of a functional group, or of a classic image the value by itself; None where there is none."""
        for place in self.places:
            inside = (place,) if self.classic else (place.get(group) or ())
            for item in inside:
                value = item.get(keyword)
                if value is not None and value != "":
                    return value
        return None


def several(value: Any) -> list[Any]:
    """Give the values of a tag that may be absent, empty, single or multiple."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) else list(value)
