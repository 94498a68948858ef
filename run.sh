#!/bin/sh
# From nothing to a result with one command. Makes the environment in .venv, once, then:
#   sh run.sh demo [options of napari-unroll demo]   the main job on a generated scan
#   sh run.sh test [options of pytest]               the tests
#   sh run.sh docs [options of sphinx]               the documentation, into docs/_build/html; warnings are errors
#   sh run.sh install [demo|test|docs]               the environment only
# On Debian and Ubuntu it installs the system libraries of Qt and OpenGL where it may, else it says what to type.
# PYTHON names another interpreter (3.11 or newer), VENV another folder, WORKERS how many processes test (all processors,
# four at most; 0: this one).
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
venv=${VENV:-.venv}
libraries="libfontconfig1 libglib2.0-0 libgl1 libegl1 libxkbcommon0 libdbus-1-3 xvfb xauth libxcb-cursor0 \
libxkbcommon-x11-0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0"

say() { printf '%s\n' "run.sh: $*" >&2; }

check_python() {
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
  say "Python 3.11 or newer is needed; '$python' is not. Install it, or name one: PYTHON=python3.12 sh run.sh $*"
  exit 2
}

missing_libraries() {
  command -v dpkg-query >/dev/null || return 0
  for name in $libraries; do
    # Newer releases append t64 to some names.
    dpkg-query -W -f='${Status}\n' "$name" "${name}t64" 2>/dev/null | grep -q 'install ok installed' || printf '%s ' "$name"
  done
  [ -x "$venv/bin/python" ] || "$python" -c 'import ensurepip, venv' 2>/dev/null || printf 'python3-venv '
}

install_libraries() {
  missing=$(missing_libraries)
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ]; then as_root=""
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root="sudo"
  else
    say "these system libraries are missing and only an administrator can install them. Type"
    printf '    sudo apt-get update && sudo apt-get install -y %s\n' "$missing" >&2
    say "and then the same command again."
    exit 3
  fi
  say "installing $missing"
  $as_root apt-get update -qq
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

install_package() { # $1: extra
  stamp="$venv/installed-$1-$(cksum <pyproject.toml | tr ' ' '-')"
  [ ! -e "$stamp" ] || return 0
  say "installing the package with [$1] into $venv (some minutes the first time)"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --upgrade pip
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --editable ".[$1]"
  touch "$stamp"
}

extra_of() {
  case "$1" in
    test | docs) echo "$1" ;;
    *) echo all ;;
  esac
}

job=${1:-}
[ $# -eq 0 ] || shift
case "$job" in
  demo | test | docs) extra=$(extra_of "$job") ;;
  install) extra=$(extra_of "${1:-demo}") ;;
  *) sed -n '2,9s/^# //p' "$0"; exit 2 ;;
esac
check_python "$job"
install_libraries
install_package "$extra"
case "$job" in
  demo) exec "$venv/bin/napari-unroll" demo "$@" ;;
  test) exec env -u DISPLAY -u WAYLAND_DISPLAY QT_QPA_PLATFORM=offscreen OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" \
    "$venv/bin/python" -m pytest --numprocesses="${WORKERS:-logical}" --maxprocesses=4 --dist=worksteal "$@" ;;
  docs) exec "$venv/bin/python" -m sphinx -q --fail-on-warning --keep-going -d docs/_build/doctrees "$@" docs docs/_build/html ;;
esac
