#!/usr/bin/env bash
# What a napari window needs of a Debian or Ubuntu machine, and pip cannot bring: installed by root, asked for otherwise.
set -eu
[ "$(uname -s)" = Linux ] || exit 0

# file to find : Debian package that holds it
wanted="
libEGL.so.1:libegl1
libGL.so.1:libgl1
libxkbcommon-x11.so.0:libxkbcommon-x11-0
libxcb-cursor.so.0:libxcb-cursor0
libxcb-icccm.so.4:libxcb-icccm4
libxcb-image.so.0:libxcb-image0
libxcb-keysyms.so.1:libxcb-keysyms1
libxcb-randr.so.0:libxcb-randr0
libxcb-render-util.so.0:libxcb-render-util0
libxcb-shape.so.0:libxcb-shape0
libxcb-xinerama.so.0:libxcb-xinerama0
libxcb-xfixes.so.0:libxcb-xfixes0
libxcb-xkb.so.1:libxcb-xkb1
libdbus-1.so.3:libdbus-1-3
libfontconfig.so.1:libfontconfig1
libglib-2.0.so.0:libglib2.0-0
"
PATH=$PATH:/sbin:/usr/sbin
cache=$(ldconfig -p)
missing=""
for pair in $wanted; do
  case "$cache" in *"${pair%%:*}"*) ;; *) missing="$missing ${pair##*:}" ;; esac
done
command -v xvfb-run >/dev/null || missing="$missing xvfb xauth"
command -v fc-list >/dev/null && [ -n "$(fc-list 2>/dev/null | head -n 1)" ] || missing="$missing fontconfig fonts-dejavu-core"
# Mesa's software renderer is a plug-in: no program links to it.
ls /usr/lib/*/dri/swrast_dri.so >/dev/null 2>&1 || missing="$missing libgl1-mesa-dri"
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086  # a list of names
  apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "A napari window needs system libraries that are missing here. Install them, then run make again:" >&2
  echo "    sudo apt-get install -y --no-install-recommends$missing" >&2
  exit 1
fi
