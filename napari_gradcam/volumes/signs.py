"""How a file shows what it is: by the ending of its name, and by its first bytes."""

from __future__ import annotations

from struct import Struct

DICOM_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
"""Files so named should be DICOM: unless they are plainly something else, they are it or are refused."""

EVERYDAY_ENDINGS = frozenset(
    (
        *(".txt", ".md", ".rst", ".htm", ".html", ".xml", ".json", ".csv", ".tsv", ".yaml"),
        *(".yml", ".toml", ".ini", ".inf", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx"),
        *(".rtf", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".svg", ".ico", ".css", ".js"),
        *(".py", ".sh", ".bat", ".exe", ".dll", ".jar", ".db", ".lnk", ".url"),
        *(".gz", ".tar", ".md5", ".sha256", ".bval", ".bvec", ".img"),
    )
)
EVERYDAY_NAMES = frozenset(("dicomdir", "readme", "license", "licence", "version", "changes", "lockfile", "thumbs.db"))

DICOM_HEAD = 256
"""So many bytes of a file show whether it is DICOM."""

_PREAMBLE = 128
_ELEMENTS = 3
"""So many elements in a row are no chance."""
_MOST_BYTES = 128
"""No element at the start of a DICOM file is longer: class, instance, dates, kind."""
_tag = Struct("<HH").unpack_from
_short = Struct("<H").unpack_from
_long = Struct("<I").unpack_from
_REPRESENTATIONS = frozenset(b"AE AS AT CS DA DS DT IS LO LT PN SH SS ST TM UI UL US".split())
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"PK\x03\x04")
_TEXT_BYTES = frozenset((*b"\t\n\f\r", *range(32, 256))) - {127}


def has_dicom_mark(head: bytes) -> bool:
    """Whether ``DICM`` stands behind the 128 bytes of the preamble (PS3.10, section 7.1)."""
    return head[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def begins_as_dataset(head: bytes) -> bool:
    """Whether a file begins with a few elements of a DICOM file, as old ones do that have no preamble.

    They must be little endian, of group 0002 or 0008, of ascending tags, and short.
    """
    at, last = 0, (0, -1)
    for _ in range(_ELEMENTS):
        if len(head) < at + 8:
            return False
        tag, vr = _tag(head, at), head[at + 4 : at + 6]
        length = _short(head, at + 6)[0] if vr in _REPRESENTATIONS else _long(head, at + 4)[0]
        if tag[0] not in (0x0002, 0x0008) or tag <= last or length % 2 or length > _MOST_BYTES:
            return False
        at, last = at + 8 + length, tag
    return True


def is_something_else(head: bytes) -> bool:
    """Whether what is called DICOM is plainly none: a text, or a picture or document by its own mark."""
    return head.startswith(_PICTURES) or (len(head) > 0 and _TEXT_BYTES.issuperset(head))
