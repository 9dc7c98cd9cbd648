"""Whose results they are: the patient and study of the scan, or nobody's.

Taken out is what PS3.15, annex E, the Basic Application Level Confidentiality Profile, takes out. Identifiers are not
reversed by who has the results: they are keyed hashes, and the key is forgotten when the program ends. Until then the
same scan gets the same ones, so that its results stay one study.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from napari_gradcam.export.dicom.uids import hashed, stand_in_uid

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement

    from napari_gradcam.export.dicom.images import Source

_PATIENT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
    *("OtherPatientIDsSequence", "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientNames"),
    *("EthnicGroup", "PatientComments", "PatientSpeciesDescription", "PatientSpeciesCodeSequence"),
    *("PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson"),
    *("ResponsiblePersonRole", "ResponsibleOrganization", "QualityControlSubject", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "DeidentificationMethodCodeSequence"),
)
"""Of the Patient module, PS3.3 C.7.1.1."""
_STUDY = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription"),
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence"),
    *("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "RequestingServiceCodeSequence", "ProcedureCodeSequence"),
    *("ReasonForPerformedProcedureCodeSequence", "PatientAge", "PatientSize", "PatientWeight", "PatientSexNeutered"),
    *("AdmittingDiagnosesDescription", "AdmissionID", "Occupation", "AdditionalPatientHistory"),
)
"""Of the General Study and Patient Study modules, PS3.3 C.7.2.1 and C.7.2.2."""
_TRIAL = (
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
"""Of the Clinical Trial Subject and Study modules, PS3.3 C.7.1.3 and C.7.2.3."""

_REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""What every object has, even if it is empty (type 2)."""

NO_DATE, NO_TIME = "19000101", "000000"
"""Stand where a date must stand and none may be told; annex E lets a dummy do so."""

_METHOD = "PS3.15 annex E Basic Profile"
_PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")


@dataclass(frozen=True, eq=False)
class Identity:
    """Whose results they are.

    Attributes
    ----------
    elements
        The patient's and the study's elements, texts decoded; without their character set, which is Unicode.
    frame_of_reference
        Frame of Reference UID (0020,0052): the source's; of a source without one, one that its results share.
    timezone
        Timezone Offset From UTC (0008,0201) of the source, such as ``"+0100"``, "" where it says none: what it tells
        of its dates must hold for those of its results.
    hidden
        Whether the patient is hidden.
    """

    elements: Dataset
    frame_of_reference: str
    timezone: str
    hidden: bool

    def uid(self, original: str) -> str:
        """Give the UID that stands for one of the source's."""
        return stand_in_uid(original) if self.hidden else original

    def blank(self) -> Dataset:
        """Give an image of the study that names nobody: highdicom refuses names and dates that real files have."""
        image = Dataset()
        for keyword in _REQUIRED:
            setattr(image, keyword, "")
        image.StudyInstanceUID = self.elements.StudyInstanceUID
        return image

    def now(self) -> tuple[str, str]:
        """Give date and time of today as the source's own clock would tell them; a dummy where they are hidden."""
        if self.hidden:
            return NO_DATE, NO_TIME
        zone = _zone(self.timezone)
        return f"{datetime.now(zone):%Y%m%d}", f"{datetime.now(zone):%H%M%S}"


def identity_of(source: Source, *, hidden: bool) -> Identity:
    """Say whose the results of a scan are.

    Parameters
    ----------
    source
        The scan's files.
    hidden
        Whether the patient is to be hidden: of patient and study nothing is left but dummies; UIDs are replaced, alike
        in all results, references to the source's images among them.
    """
    dataset = source.dataset
    series = source.references[0][0].series
    # A file without these is not legal, and its results are to be.
    study = str(dataset.get("StudyInstanceUID") or "") or stand_in_uid(f"study of {series}")
    frame = str(dataset.get("FrameOfReferenceUID") or "") or stand_in_uid(f"frame of reference of {series}")
    if hidden:
        return Identity(_nobody(dataset, study), stand_in_uid(frame), "", hidden=True)
    elements = Dataset()
    for keyword in (*_PATIENT, *_STUDY, *_TRIAL):
        if keyword in dataset and (keyword in _REQUIRED or _is_valid(dataset[keyword])):
            elements.add(deepcopy(dataset[keyword]))
    _complete(elements)
    elements.StudyInstanceUID = study
    return Identity(elements, frame, _offset(dataset), hidden=False)


def _nobody(dataset: Dataset, study: str) -> Dataset:
    """Give a patient who is nobody, another one for each patient, so that an archive does not make one of all."""
    elements = Dataset()
    whose = f"patient {dataset.get('PatientID')} {dataset.get('PatientName')}"
    elements.PatientID = hashed(whose, 8).hex()
    elements.PatientName = "Deidentified^Patient"
    _complete(elements)
    elements.StudyInstanceUID = stand_in_uid(study)
    elements.PatientIdentityRemoved = "YES"
    elements.DeidentificationMethod = _METHOD
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _PROFILE
    elements.DeidentificationMethodCodeSequence = [code]
    return elements


def _complete(elements: Dataset) -> None:
    for keyword in _REQUIRED:
        if keyword not in elements:
            setattr(elements, keyword, "")


def _is_valid(element: DataElement) -> bool:
    """Whether a value keeps the rules of its representation; of those that need not be there, others are left out."""
    values = element.value if element.VM > 1 else [element.value]
    if element.VR == "SQ":
        return True
    try:
        for value in values:
            validate_value(element.VR, str(value), config.RAISE)
    except ValueError:
        return False
    return True


def _offset(dataset: Dataset) -> str:
    element: DataElement | None = dataset.get("TimezoneOffsetFromUTC") and dataset["TimezoneOffsetFromUTC"]
    written = str(element.value) if element is not None else ""
    return written if _zone(written) is not None else ""


def _zone(offset: str) -> timezone | None:
    """Give the time zone of an offset such as ``"-0330"``; None, this machine's own, where it is none."""
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdigit():
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)) if minutes < 24 * 60 else None
