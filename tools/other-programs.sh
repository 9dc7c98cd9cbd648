#!/usr/bin/env bash
# Programs of others that tests open our results with, from Debian: a validator, a toolkit and an archive for DICOM, a browser
# and a reader of its prints for the report. Whoever lacks them loses those tests alone, which skip and say so: nothing here
# fails.
set -u
[ "$(uname -s)" = Linux ] || exit 0

PATH=$PATH:/usr/sbin
missing=""
command -v dciodvfy >/dev/null || missing="$missing dicom3tools"
command -v dcmdump >/dev/null || missing="$missing dcmtk"
command -v Orthanc >/dev/null || missing="$missing orthanc"
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
command -v chromium >/dev/null || missing="$missing chromium"
command -v pdftotext >/dev/null || missing="$missing poppler-utils"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Tests with other programs will be skipped. To run them: sudo apt-get install -y --no-install-recommends$missing" >&2
  exit 0
fi
# The tests start an Orthanc of their own: the package is not to start one as a service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of names
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
  echo "Tests with other programs will be skipped:$missing could not be installed." >&2
exit 0
