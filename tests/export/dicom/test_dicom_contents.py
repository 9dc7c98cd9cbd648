"""What the four results say, read by pydicom and highdicom, and opened by programs that are not ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom import dcmread

from napari_gradcam import GradCamError, words
from napari_gradcam.export import save
from napari_gradcam.export.dicom import segmentation, structured_report
from napari_gradcam.export.dicom.segments import segments
from napari_gradcam.export.manner import Manner
from napari_gradcam.hotspots import hot_spots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset

    from napari_gradcam.explanation import Explanation

Written = dict[str, "Path"]


@pytest.fixture
def explanation(straight_series: Path, explained: Callable[..., Explanation]) -> Explanation:
    return explained(straight_series)


def code(item: Any) -> tuple[str, str]:
    return item.CodeValue, item.CodingSchemeDesignator


def floats_told_by_dcmtk(text: str) -> np.ndarray:
    """Give Float Pixel Data as dcmdump of the DICOM toolkit prints it, nine digits a number, which are all of them."""
    (line,) = re.findall(r"^\(7fe0,0008\) OF (\S+)", text, re.MULTILINE)
    return np.array(line.split("\\"), dtype=np.float32)


def test_another_program_reads_the_raw_heat_bit_by_bit(
    explanation: Explanation, written: Callable[..., Written], run: Callable[..., str]
) -> None:
    path = written(explanation, "parametric_map")["parametric_map"]
    values = floats_told_by_dcmtk(run("dcmdump", "+L", "-q", path))
    np.testing.assert_array_equal(values.reshape(-1, 10, 14)[::-1], explanation.heatmap.transpose(2, 1, 0))


def test_a_signed_map_keeps_its_negative_values(
    straight_series: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    explanation = explained(straight_series, signed=True)
    dataset = dcmread(written(explanation, "parametric_map")["parametric_map"])
    assert dataset.pixel_array.dtype == np.float32
    assert dataset.pixel_array.min() == explanation.heatmap.min() < 0
    window = dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert float(window.WindowCenter) == 0
    assert window.VOILUTFunction == "LINEAR_EXACT"


def test_the_parametric_map_says_what_its_numbers_are(
    explanation: Explanation, written: Callable[..., Written]
) -> None:
    dataset = dcmread(written(explanation, "parametric_map")["parametric_map"])
    assert dataset.ContentLabel == "CLASS_ACTIVATION"
    assert dataset.ContentQualification == "RESEARCH"
    assert (dataset.BurnedInAnnotation, dataset.RecognizableVisualFeatures) == ("NO", "NO")
    assert "ContentCreatorName" not in dataset or not dataset.ContentCreatorName
    (mapping,) = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == explanation.heatmap.max()
    assert code(mapping.MeasurementUnitsCodeSequence[0]) == ("1", "UCUM")
    quantity, name, _, parameters = mapping.QuantityDefinitionSequence
    assert code(quantity.ConceptCodeSequence[0]) == ("130402", "DCM")
    assert quantity.ConceptCodeSequence[0].CodeMeaning == "Class activation"
    assert name.TextValue == "Grad-CAM (napari-gradcam)"
    for told in ("model=two classes", "model version=1.2.0", "ab" * 32, "class=lesion", "layer=class_layers.relu"):
        assert told in parameters.TextValue
    equipment = dataset.ContributingEquipmentSequence[0]
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("two classes", "1.2.0")


def test_each_hot_spot_is_a_segment(explanation: Explanation, written: Callable[..., Written]) -> None:
    dataset = dcmread(written(explanation, "segmentation")["segmentation"])
    assert dataset.SegmentationType == "BINARY"
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == ["Hot spot 1: lesion", "Hot spot 2: lesion"]
    for number, segment in enumerate(dataset.SegmentSequence, start=1):
        assert segment.SegmentNumber == number
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert code(segment.SegmentedPropertyCategoryCodeSequence[0]) == ("309825002", "SCT")
        assert code(segment.SegmentedPropertyTypeCodeSequence[0]) == ("130402", "DCM")
        assert segment.TrackingID == segment.SegmentLabel
        (by,) = segment.SegmentationAlgorithmIdentificationSequence
        assert f"threshold={Manner().least(explanation)!r}" in by.AlgorithmParameters
    colours = {tuple(segment.RecommendedDisplayCIELabValue) for segment in dataset.SegmentSequence}
    assert len(colours) == 2


def test_what_speaks_against_the_class_is_called_so(
    straight_series: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    explanation = explained(straight_series, signed=True)
    dataset = dcmread(written(explanation, "segmentation")["segmentation"])
    labels = {segment.SegmentLabel for segment in dataset.SegmentSequence}
    assert labels == {"Hot spot 1: lesion", "Hot spot 2: against lesion"}
    spots, voxels = segments(explanation, Manner().least(explanation))
    for spot in spots:
        assert np.sign(explanation.heatmap[voxels == spot.rank]).tolist() == [np.sign(spot.peak.value)] * spot.voxels


def test_simpleitk_reads_the_segments_as_they_are(explanation: Explanation, written: Callable[..., Written]) -> None:
    import SimpleITK

    path = written(explanation, "segmentation")["segmentation"]
    seen = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    np.testing.assert_array_equal(seen > 0, dcmread(path).pixel_array > 0)


def test_a_map_without_evidence_has_no_segmentation_and_a_report_that_says_so(
    straight_series: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    explanation = explained(straight_series, heatmap=np.zeros((14, 10, 6), dtype=np.float32))
    assert "without a segment" in segmentation.unfit(explanation)
    assert structured_report.unfit(explanation) == ""
    paths = written(explanation)
    assert sorted(paths) == ["parametric_map", "secondary_capture", "structured_report"]
    report = dcmread(paths["structured_report"])
    said = [item for item in content(report) if concept(item) == "Hot spots at or above the threshold"]
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in said] == ["Absent"]


def test_where_a_fixed_scale_leaves_nothing_the_one_segment_says_so(
    explanation: Explanation, written: Callable[..., Written]
) -> None:
    paths = written(explanation, "segmentation", "structured_report", top=100.0)
    dataset = dcmread(paths["segmentation"])
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == ["No hot spot: all below 40 logit units"]
    assert not dataset.pixel_array.any()
    assert "Absent" in str(dcmread(paths["structured_report"]))


def test_the_picture_is_that_of_the_overlay_with_its_card(
    explanation: Explanation, written: Callable[..., Written], tmp_path: Path, run: Callable[..., str]
) -> None:
    from napari_gradcam.export.picture import overlay_page

    path = written(explanation, "secondary_capture")["secondary_capture"]
    dataset = dcmread(path)
    np.testing.assert_array_equal(dataset.pixel_array, overlay_page(explanation, Manner()).pixels())
    assert (dataset.ConversionType, dataset.BurnedInAnnotation) == ("WSD", "YES")
    assert words.PURPOSE in dataset.ImageComments
    assert "ab" * 32 in dataset.DerivationDescription
    run("dcm2pnm", "--write-png", path, tmp_path / "seen.png")
    from PIL import Image

    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")), dataset.pixel_array)


def content(item: Any) -> list[Dataset]:
    """List all items of a report, the root not among them."""
    return [one for child in item.get("ContentSequence", ()) for one in (child, *content(child))]


def concept(item: Any) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if item.get("ConceptNameCodeSequence") else ""


def measured(group: Any, name: str) -> list[float]:
    return [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in group.ContentSequence
        if item.ValueType == "NUM" and concept(item) == name
    ]


def test_the_report_measures_each_hot_spot_and_names_its_segment(
    explanation: Explanation, written: Callable[..., Written]
) -> None:
    from highdicom.sr import srread

    paths = written(explanation)
    segment, pmap = dcmread(paths["segmentation"]), dcmread(paths["parametric_map"])
    report = srread(paths["structured_report"])
    spots = hot_spots(explanation, Manner().least(explanation))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(spots) == 2
    for spot, group, described in zip(spots, groups, segment.SegmentSequence, strict=True):
        assert group.tracking_uid == described.TrackingUID
        assert group.tracking_identifier == described.SegmentLabel
        referenced = group.referenced_segment
        assert referenced.referenced_sop_instance_uid == segment.SOPInstanceUID
        assert list(referenced.referenced_segment_numbers) == [spot.rank]
        assert measured(group[0], "Class activation") == pytest.approx([spot.peak.value, spot.evidence])
        assert measured(group[0], "Share of the evidence of its sign in the map") == pytest.approx([100 * spot.share])
        assert measured(group[0], "Volume") == pytest.approx([spot.millilitres])
    points = [item for item in content(report) if item.ValueType == "SCOORD3D"]
    for spot, point in zip(spots, points, strict=True):
        np.testing.assert_allclose(point.GraphicData, np.array(spot.peak.position) * (-1, -1, 1), rtol=1e-6)
        assert point.ReferencedFrameOfReferenceUID == pmap.FrameOfReferenceUID
    peaks = [item for item in content(report) if concept(item) == "Source of Measurement"]
    for spot, item in zip(spots, peaks, strict=True):
        (reference,) = item.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == pmap.SOPInstanceUID
        assert pmap.pixel_array[reference.ReferencedFrameNumber - 1].max() == np.float32(spot.peak.value)


def test_the_report_tells_classes_and_who_observed(
    explanation: Explanation, written: Callable[..., Written], run: Callable[..., str]
) -> None:
    path = written(explanation, "structured_report")["structured_report"]
    told = run("dsrdump", "+Pl", path)
    assert "Comprehensive 3D SR Document" in told
    assert 'Device Observer Name")="napari-gradcam"' in told
    assert re.search(r'"Class probability by the network"\)="98.69\d*" \(%,UCUM', told)
    assert re.search(r'"Class probability by the network"\)="1.31\d*" \(%,UCUM', told)
    for said in ('99GRADCAM,"lesion"', '99GRADCAM,"no lesion"', '"Image Library"', "two classes", "ab" * 32):
        assert said in told
    assert "error" not in told.lower()
    assert "Certainty of Finding" not in told
    lines = told.splitlines()
    comments = [number for number, line in enumerate(lines) if '"Comment")=' in line]
    assert "For research and review, not for diagnosis." in lines[comments[0]]
    assert len(comments) == 1 + len(explanation.notices)
    assert comments[-1] < next(number for number, line in enumerate(lines) if '"Image Library"' in line)


def test_a_report_by_itself_measures_without_segments(
    explanation: Explanation, written: Callable[..., Written]
) -> None:
    dataset = dcmread(written(explanation, "structured_report")["structured_report"])
    assert "Referenced Segment" not in {concept(item) for item in content(dataset)}
    volumes = [item for item in content(dataset) if concept(item) == "Volume"]
    assert len(volumes) == 2


def test_all_four_are_results_of_the_scan_s_own_study(
    explanation: Explanation, straight_series: Path, tmp_path: Path
) -> None:
    paths = save(explanation, tmp_path / "results", ["dicom"])
    assert [path.stem for path in paths] == [
        "parametric_map",
        "segmentation",
        "secondary_capture",
        "structured_report",
    ]
    datasets = [dcmread(path) for path in paths]
    source = dcmread(next(straight_series.iterdir()))
    assert {dataset.StudyInstanceUID for dataset in datasets} == {source.StudyInstanceUID}
    assert [dataset.SeriesNumber for dataset in datasets] == [401, 402, 403, 404]
    assert [dataset.SeriesDescription for dataset in datasets] == [
        "Grad-CAM, lesion, parametric map",
        "Grad-CAM, lesion, segmentation",
        "Grad-CAM, lesion, secondary capture",
        "Grad-CAM, lesion, structured report",
    ]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uids = [getattr(dataset, keyword) for dataset in datasets]
        assert len(set(uids)) == 4
        assert all(uid.startswith("2.25.") for uid in uids)
    assert {dataset.Manufacturer for dataset in datasets} == {"napari-gradcam"}
    evidence = str(datasets[3].CurrentRequestedProcedureEvidenceSequence)
    assert datasets[0].SOPInstanceUID in evidence
    assert datasets[1].SOPInstanceUID in evidence


def test_two_saves_are_other_instances(explanation: Explanation, tmp_path: Path) -> None:
    uids = [
        dcmread(path).SOPInstanceUID
        for folder in ("one", "other")
        for path in save(explanation, tmp_path / folder, ["dicom"])
    ]
    assert len(set(uids)) == 8


def test_long_and_foreign_names_are_cut_to_what_dicom_holds(
    straight_series: Path, explained: Callable[..., Explanation], written: Callable[..., Written]
) -> None:
    target = "肺結節 \\ " + "a very long name of a class " * 5
    explanation = explained(straight_series, target=target, scores={target: 0.9, "b": float("nan")})
    paths = written(explanation)
    assert len(paths) == 4
    label = dcmread(paths["segmentation"]).SegmentSequence[0].SegmentLabel
    assert label.startswith("Hot spot 1: 肺結節 / a very")
    assert len(label) == 64


def test_what_highdicom_refuses_is_said_in_a_sentence(
    explanation: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import highdicom.pm

    def refuse(**given: Any) -> None:
        raise ValueError("Something is odd.\nVery odd.")

    monkeypatch.setattr(highdicom.pm, "ParametricMap", refuse)
    with pytest.raises(GradCamError, match=r"^No DICOM parametric map can be made of “T1 axial” \(Something is odd"):
        save(explanation, tmp_path / "results", ["dicom"])
    assert not (tmp_path / "results").exists()
