"""What an explanation can be saved as: each format with its files, their writers, and when they do not fit.

A writer is called as ``write(explanation, path, manner)`` and its room is imported when it is: matplotlib, highdicom
and jinja2 take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from napari_gradcam.errors import GradCamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from napari_gradcam.export.manner import Manner


class File(NamedTuple):
    """A file that an explanation is saved as.

    Attributes
    ----------
    name
        Its name in the folder.
    home, writer
        The module of this package, and the function there, that write it.
    unfit
        The function there that says in a sentence why it cannot be written of an explanation, "" where it can; "" if it
        always can.
    """

    name: str
    home: str
    writer: str
    unfit: str = ""

    def write(self, explanation: Explanation, path: Path, manner: Manner) -> None:
        """Write it."""
        getattr(import_module(f"{__package__}.{self.home}"), self.writer)(explanation, path, manner)

    def refused(self, explanation: Explanation) -> str:
        """Say why it cannot be written of an explanation; "" where it can."""
        if not self.unfit:
            return ""
        said: str = getattr(import_module(f"{__package__}.{self.home}"), self.unfit)(explanation)
        return said


_HEATMAP = File("heatmap.nii.gz", "nifti", "write_heatmap")

FORMATS: Mapping[str, Sequence[File]] = {
    "nifti": (_HEATMAP,),
    "coarse": (File("coarse.nii.gz", "nifti", "write_coarse", "coarse_unfit"),),
    "bands": (File("bands.nii.gz", "nifti", "write_bands"),),
    "picture": (File("overlay.png", "picture", "write_overlay"),),
    "slice": (File("slice.png", "picture", "write_chosen"),),
    "montage": (File("montage.png", "montage", "write_montage", "montage_unfit"),),
    "animation": (File("scroll.gif", "scroll", "write_gif", "scroll_unfit"),),
    "video": (File("scroll.mp4", "scroll", "write_mp4", "video_unfit"),),
    "report": (File("report.html", "report", "write_report"),),
    "tables": (
        File("scores.json", "scores", "write_scores"),
        File("scores.csv", "tables", "write_scores_table"),
        File("hotspots.csv", "tables", "write_hot_spots"),
        File("profile.csv", "tables", "write_profile"),
    ),
    "dicom": (
        File("parametric_map.dcm", "dicom.parametric_map", "write_parametric_map", "unfit"),
        File("segmentation.dcm", "dicom.segmentation", "write_segmentation", "unfit"),
        File("secondary_capture.dcm", "dicom.capture", "write_capture", "unfit"),
        File("structured_report.dcm", "dicom.structured_report", "write_structured_report", "unfit"),
    ),
    # The last one: it tells of the others. With the heat map beside it, it can be opened again.
    "record": (_HEATMAP, File("explanation.json", "record", "write_record", "record_unfit")),
}
"""What :func:`napari_gradcam.export.save` writes, by the name of the format, in the order in which it is written."""

LABELS: Mapping[str, str] = {
    "nifti": "Heat map (NIfTI)",
    "coarse": "The network's own cells (NIfTI)",
    "bands": "Bands as a label map (NIfTI)",
    "picture": "Three planes through the hottest point (PNG)",
    "slice": "One slice: the one in sight, or the hottest (PNG)",
    "montage": "The hottest slices (PNG)",
    "animation": "Scroll through the slices (GIF)",
    "video": "Scroll through the slices (MP4)",
    "report": "Report (HTML)",
    "tables": "Scores, hot spots, profile (CSV, JSON)",
    "dicom": "Parametric map, segmentation, picture and report (DICOM)",
    "record": "Record to open or run again (JSON)",
}
"""What the formats are called."""

USUAL = ("nifti", "picture", "montage", "report", "tables", "record")
"""The formats that are saved where nobody chooses."""

GROUPS: Mapping[str, Sequence[str]] = {"default": USUAL, "all": tuple(FORMATS)}
"""Names for several formats, of which those are left out that do not fit an explanation."""

DEFAULT = ("default",)


def expanded(formats: Sequence[str]) -> dict[str, bool]:
    """List formats, each with whether it was named itself and not as one of a group.

    Raises
    ------
    GradCamError
        If there is no such format.
    """
    for name in formats:
        if name not in FORMATS and name not in GROUPS:
            raise GradCamError(f"There is no format “{name}”; choose {', '.join((*FORMATS, *GROUPS))}.")
    grouped = {name for group in formats for name in GROUPS.get(group, ())}
    return {name: name in formats for name in FORMATS if name in formats or name in grouped}


def files_of(explanation: Explanation, formats: Sequence[str] = DEFAULT) -> list[File]:
    """List the files that an explanation is saved as.

    Parameters
    ----------
    explanation
        The explanation.
    formats
        Names of :data:`FORMATS` or :data:`GROUPS`. Of a format that was named some file must fit.

    Raises
    ------
    GradCamError
        If there is no such format, or nothing of it can be written of this explanation; the sentence says why.
    """
    files: dict[str, File] = {}
    for name, named in expanded(formats).items():
        ones = FORMATS[name]
        reasons = [one.refused(explanation) for one in ones]
        told = next(filter(None, reasons), "")
        # A record without its heat map, or a heat map in the place of a record, is neither.
        if told and (all(reasons) or name == "record"):
            if named:
                raise GradCamError(told)
            continue
        files |= {one.name: one for one, reason in zip(ones, reasons, strict=True) if not reason}
    return list(files.values())
