"""How the numbers of an explanation are said, alike in a window, a picture and a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_gradcam.explanation import METHODS
from napari_gradcam.volumes.orientation import DisplayGrid, axis_letters, obliquity
from napari_gradcam.volumes.persons import impersonal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_gradcam.classifiers import Classifier
    from napari_gradcam.classifiers.classifier import Windows
    from napari_gradcam.explanation import Explanation
    from napari_gradcam.volumes import Scan, Volume
    from napari_gradcam.volumes.volume import Unit

PURPOSE = "For research and review, not for diagnosis."

_UNITS = {
    "gradcam++": "units of its own",
    "eigencam": "units of the layer's activations",
    "scorecam": "units of the layer's activations",
    "ablationcam": "logit units times activation",
}

_ENDS = ("RL", "AP", "SI")
_SIDES = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}


def place(position: Sequence[float]) -> str:
    """Say where a point lies in the patient.

    Parameters
    ----------
    position
        RAS+ mm.

    Returns
    -------
    str
        Such as ``"R 32.0 A 14.0 S 50.0 mm"``.
    """
    return " ".join(along_axis(axis, mm) for axis, mm in enumerate(position)) + " mm"


def hottest_point(explanation: Explanation, volume: Volume) -> str:
    """Say where the map is hottest: in the patient, or by voxel where no file places the scan in the patient."""
    peak = explanation.peak
    if volume.unit == "pixels":
        _, row, column = DisplayGrid.of(volume).index_to_display(peak.index)
        return f"row {row:.0f}, column {column:.0f}"
    return place(peak.position) if volume.in_patient_space else "voxel " + " ".join(map(str, peak.index))


def along_axis(axis: int, mm: float) -> str:
    """Say one patient coordinate with its letter, ``"L 12.5"`` for -12.5 mm on axis 0 of RAS+."""
    shown = round(mm, 1)
    return f"{_ENDS[axis][shown < 0]} {abs(shown):.1f}"


def size(lengths: Sequence[float], unit: Unit = "mm") -> str:
    """Say the edges of a box, ``"16.0 × 16.0 × 16.0 mm"``; of a picture's, ``"16.0 × 16.0 pixels"``."""
    return " × ".join(f"{length:.1f}" for length in lengths) + f" {unit}"


def cell(explanation: Explanation) -> str:
    """Say the size of a cell of the map."""
    return size(cell_lengths(explanation), explanation.unit)


def cell_lengths(explanation: Explanation) -> tuple[float, ...]:
    """Give the edges of a cell of the map; of a picture, which has no depth, width and height."""
    lengths = explanation.cell_size
    if explanation.unit != "pixels":
        return lengths
    # The network may have read the picture row by row; its columns run along the first axis of space.
    affine = explanation.coarse_affine.reshape(-1, 4, 4)[0]
    return lengths[:2] if abs(affine[0, 0]) >= abs(affine[0, 1]) else lengths[1::-1]


def extent(volume: Volume) -> str:
    """Say how large a scan is, ``"64 × 64 × 32 voxels of 1.0 × 1.0 × 2.0 mm"``; a picture, ``"640 × 480 pixels"``."""
    if volume.unit == "pixels":
        _, rows, columns = DisplayGrid.of(volume).shape
        return f"{columns} × {rows} pixels"
    voxels = "voxel" if volume.array.size == 1 else "voxels"
    return f"{' × '.join(map(str, volume.shape))} {voxels} of {size(volume.spacing)}"


def probability(value: float) -> str:
    """Say a probability to three places; never 0 or 1 for one that is neither."""
    if 0 < value < 0.0005:
        return "< 0.001"
    if 0.9995 <= value < 1:
        return "> 0.999"
    return f"{value:.3f}"


def number(value: float) -> str:
    """Say a raw value to three significant digits."""
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def unit(explanation: Explanation) -> str:
    """Say what the raw values of the map are measured in."""
    return _UNITS.get(explanation.method, "logit units")


def method(explanation: Explanation) -> str:
    """Say the method's label; its name where it is none of ours."""
    return METHODS.get(explanation.method, explanation.method)


def about(classifier: Classifier) -> list[tuple[str, str]]:
    """Say what a model tells of itself, name by name; what it does not tell is left out, its licence comes last."""
    wants, activation = classifier.wants, classifier.head.activation
    several = "exclude one another" if classifier.head.exclusive else "several may be true at once"
    told = [("name", classifier.name), ("version", classifier.version), ("description", classifier.description)]
    told += [("intended use", classifier.intended_use), ("modality", wants.modality)]
    channels = classifier.channels_read
    told.append(("channels", f"{channels}{': ' * bool(wants.channels)}{', '.join(wants.channels)}"))
    if wants.size is not None:
        told.append(("input size", " × ".join(map(str, wants.size))))
    if wants.value_range is not None:
        told.append(("input values", "{:g} to {:g}".format(*wants.value_range)))
    told += [("activation", activation), ("classes", several), ("layer", classifier.default_layer)]
    if classifier.spatial_dims == 2:
        told += [("slices", classifier.slice_rule.plane), ("aggregation", _aggregation(classifier))]
        told.append(("pictures", f"read {'row by row' if wants.rows_first else 'column by column'}"))
    if classifier.windows is not None:
        told.append(("windows", _windows(classifier.windows)))
    told.append(("licence", classifier.licence))
    return [(name, value) for name, value in told if value]


def _aggregation(classifier: Classifier) -> str:
    rule = classifier.slice_rule
    if rule.aggregation == "mean":
        return "the mean of all slices"
    where = f"where “{classifier.class_names[rule.positive]}” is most probable"
    return f"the one slice {where}" if rule.aggregation == "max" else f"the mean of the {rule.top} slices {where}"


def _windows(windows: Windows) -> str:
    roi = " × ".join(str(edge) if edge > 0 else "all" for edge in windows.roi)
    overlap = " × ".join(dict.fromkeys(f"{100 * share:.0f} %" for share in windows.overlap))
    weights = "less towards their edges" if windows.mode == "gaussian" else "the same everywhere"
    return f"{roi} voxels, of which each covers {overlap} of the next; they count {weights}"


def facts(scan: Scan, *, personal: bool = False) -> list[tuple[str, str]]:
    """Say what the headers of a scan tell, name by name; whose it is only where that is asked for."""
    told = [("scan", scan.name)]
    if scan.series is not None:
        of = scan.series
        if personal:
            told += [("patient's name", of.person.name), ("patient's ID", of.person.identifier)]
            told += [("born", of.person.born)]
        told += [("patient", str(of.patient)), ("study", " ".join((str(of.study), of.study_description)).strip())]
        told += [("series", of.description), ("series number", of.number), ("patient position", of.position)]
    told += [("modality", scan.modality), ("images", str(scan.images))]
    if scan.frames > 1:
        told.append(("frames", f"{scan.frames}, one after another"))
    if scan.shape is not None:
        told.append(("grid", " × ".join(map(str, scan.shape)) + (" voxel" if set(scan.shape) == {1} else " voxels")))
    if scan.affine is not None and scan.spacing is not None:
        if scan.unit == "mm":
            told.append(("spacing", " × ".join(f"{mm:.4g}" for mm in scan.spacing) + " mm"))
        if scan.in_patient_space:
            corner = [float(mm) for mm in scan.affine[:3, 3]]
            letters = axis_letters(scan.affine)
            sides = [_SIDES[letter] for letter in letters]
            told.append(("orientation", f"{''.join(letters)}: its axes run to the patient's {', '.join(sides)}"))
            told += [("obliquity", f"{obliquity(scan.affine):.1f}°"), ("first voxel", place(corner))]
        else:
            told.append(("orientation", "unknown"))
    told.append(("files", _files(scan, personal)))
    return [(name, value) for name, value in told if value]


def _files(scan: Scan, personal: bool) -> str:
    """Say how many files a scan has and how they are called, unless they are called after the patient."""
    ends = [path.name for path in (*scan.source[:1], *scan.source[1:][-1:])]
    if not personal and scan.series is not None and not all(impersonal(end, scan.series.person) for end in ends):
        return str(len(scan.source))
    return ends[0] if len(ends) == 1 else f"{len(scan.source)}, {' to '.join(ends)}"
