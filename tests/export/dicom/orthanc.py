"""A real Orthanc server on loopback, and the little of DICOMweb (PS3.18) that a test needs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import HTTP
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import FileDataset

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
"""Where Debian's orthanc-dicomweb puts it."""
_DICOM = "application/dicom"
_PATIENCE = 20.0
"""Seconds for the server to start, and for one request."""


def program() -> str | None:
    """Give Debian's Orthanc; it lies where a user's PATH may not lead."""
    return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Run an Orthanc that stores into a folder, hears loopback alone, and is gone afterwards."""
    http, dicom = _free_ports(2)
    (folder / "storage").mkdir(parents=True)
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpServerEnabled": True,
        "HttpPort": http,
        "DicomServerEnabled": False,
        "DicomPort": dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpsCACertificates": "",
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        ran = subprocess.Popen([str(program()), str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        yield Server.started(ran, http, folder / "orthanc.log")
    finally:
        ran.send_signal(signal.SIGTERM)
        try:
            ran.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            ran.kill()
            ran.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Server:
    """A server's DICOMweb."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        # Without the proxies of the environment: it is on this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @classmethod
    def started(cls, ran: subprocess.Popen[bytes], port: int, log: Path) -> Server:
        """Wait until it answers."""
        found, end = cls(port), time.monotonic() + _PATIENCE
        while time.monotonic() < end and ran.poll() is None:
            try:
                found._asked("/system")
            except OSError:
                time.sleep(0.1)
            else:
                return found
        raise RuntimeError(f"Orthanc did not start: {log.read_text()[-2000:]}")

    def store(self, paths: Sequence[Path]) -> list[str]:
        """Send files by STOW-RS and give the SOP Instance UIDs that it says it has stored."""
        mark = "a-line-between-files"
        parts = [f"--{mark}\r\nContent-Type: {_DICOM}\r\n\r\n".encode() + path.read_bytes() + b"\r\n" for path in paths]
        body = b"".join(parts) + f"--{mark}--\r\n".encode()
        kind = f'multipart/related; type="{_DICOM}"; boundary={mark}'
        answer = self._asked("/dicom-web/studies", body, **{"Content-Type": kind, "Accept": "application/dicom+json"})
        said = json.loads(answer)
        refused = said.get("00081198", {}).get("Value")
        assert not refused, refused
        return [item["00081155"]["Value"][0] for item in said["00081199"]["Value"]]

    def instances(self, study: str) -> list[dict[str, Any]]:
        """List the instances of a study by QIDO-RS, each with its DICOM JSON."""
        answer = self._asked(f"/dicom-web/studies/{study}/instances", Accept="application/dicom+json")
        found: list[dict[str, Any]] = json.loads(answer)
        return found

    def retrieve(self, study: str, series: str, instance: str) -> FileDataset:
        """Get an instance back by WADO-RS, as it was sent."""
        place = f"/dicom-web/studies/{study}/series/{series}/instances/{instance}"
        kind = f'multipart/related; type="{_DICOM}"; transfer-syntax=*'
        request = urllib.request.Request(self._root + place, headers={"Accept": kind})
        with self._opener.open(request, timeout=_PATIENCE) as answer:
            head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
            message = message_from_bytes(head + answer.read(), policy=HTTP)
        (part,) = message.iter_parts()
        return dcmread(BytesIO(part.get_payload(decode=True)))

    def _asked(self, place: str, body: bytes | None = None, **headers: str) -> bytes:
        request = urllib.request.Request(self._root + place, body, headers)
        with self._opener.open(request, timeout=_PATIENCE) as answer:
            said: bytes = answer.read()
            return said
