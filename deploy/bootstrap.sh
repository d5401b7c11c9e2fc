#!/usr/bin/env bash
# Makes .venv with everything from requirements.lock, and the project itself, editable. Fast when nothing has changed.
# --dev also sees to a Chromium for the browser tests and a libfaketime for those with a moved clock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONDONTWRITEBYTECODE # without bytecode every process imports twice as long

UV_VERSION=0.13.9
VENV=.venv
STAMP=$VENV/.bootstrapped

say() { printf 'bootstrap: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 2
}

as_root() { # runs a command as root; fails when that is not possible without a password
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_install() {
  say "installing $* with apt-get"
  as_root apt-get update -qq >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

suitable() { # a name on PATH may be a shim without a Python behind it: ask it
  command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null
}

find_python() {
  local name
  for name in ${PYTHON:-} python3.11 python3.12 python3 python; do
    if suitable "$name"; then
      command -v "$name"
      return
    fi
  done
  return 1
}

make_venv() {
  local python version
  python=$(find_python) || fail "Python 3.11 or 3.12 is needed and was not found on PATH (python3 is $(python3 --version 2>&1 || true)). Install it, or name it: PYTHON=/path/to/python3.12 make up"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    can_install || fail "$python lacks the modules venv and ensurepip. Install them (Debian, Ubuntu: python$version-venv)."
    apt_install "python$version-venv" || fail "python$version-venv could not be installed."
  fi
  say "making $VENV with $("$python" --version)"
  rm -rf "$VENV"
  "$python" -m venv "$VENV"
}

install_packages() {
  suitable "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
  if [ "$("$VENV/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
  fi
  export VIRTUAL_ENV="$PWD/$VENV"
  if [ "$(uname -s)" = Linux ]; then
    say "installing the locked packages"
    "$VENV/bin/uv" pip install --quiet --no-deps --compile-bytecode --require-hashes -r requirements.lock
    "$VENV/bin/uv" pip install --quiet --no-deps -e .
  else # other systems need other packages (XGBoost), and the lock is Linux's
    say "NOT LOCKED: requirements.lock is for Linux; on $(uname -s) the packages are resolved anew"
    "$VENV/bin/uv" pip install --quiet --compile-bytecode -e '.[dev]'
  fi
}

fingerprint() { # what the environment is made from, and where: a moved folder needs new scripts
  { cat requirements.lock pyproject.toml && pwd; } | { sha256sum 2>/dev/null || shasum -a 256; } | cut -d' ' -f1
}

find_chromium() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" && return
  done
  return 1
}

see_to_chromium() {
  find_chromium >/dev/null && return
  if can_install && apt_install chromium && find_chromium >/dev/null; then return; fi
  say "NO CHROMIUM: the browser tests will be skipped. Install one (Debian, Ubuntu: apt-get install chromium)."
}

see_to_faketime() { # moves the clock of single processes, for tests
  compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null && return
  if can_install && apt_install faketime; then return; fi
  say "NO LIBFAKETIME: the tests with a moved clock will be skipped. Install it (Debian, Ubuntu: apt-get install faketime)."
}

if [ "$(cat "$STAMP" 2>/dev/null || true)" != "$(fingerprint)" ] || ! suitable "$VENV/bin/python"; then
  began=$SECONDS
  install_packages
  fingerprint >"$STAMP"
  say "ready after $((SECONDS - began)) s"
fi
if [ "${1:-}" = --dev ]; then
  see_to_chromium
  see_to_faketime
fi
