# shellcheck shell=bash
# Sourced by the other scripts. `need_env LOCK` makes sure that .venv holds what LOCK pins, and puts it on PATH.
# Any Python >= 3.12 will do, 3.13 by preference. The folder .venv belongs to these scripts: they replace it as they see fit.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
SETUP_LOG="$ROOT/.venv.log"

say() { printf '%s\n' "$@" >&2; }
fail() { say "$@"; exit 2; }

# --- finding a Python ---------------------------------------------------------------------------------------

candidate_pythons() {
    local version
    for version in 3.13 3.12 3.14; do
        type -P "python$version" || true
        compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python" || true
    done
    type -P python3 || true
}

first_python_that() { # CODE, which raises or exits non-zero in a Python that won't do
    local python
    while read -r python; do
        "$python" -c "$1" </dev/null >/dev/null 2>&1 && { echo "$python"; return; }
    done < <(candidate_pythons)
    return 1
}

IS_RECENT='import sys; sys.exit(sys.version_info < (3, 12))'
CAN_MAKE_ENV="import ensurepip, venv; $IS_RECENT"

find_python() { first_python_that "$CAN_MAKE_ENV"; }
find_uv() { type -P uv || type -P "$HOME/.local/bin/uv" || type -P "$HOME/.cargo/bin/uv"; }

explain_missing_python() {
    local recent found
    if recent="$(first_python_that "$IS_RECENT")"; then
        say "$recent is recent enough, but its venv module is missing, so it can't make an environment."
    else
        found="$(python3 --version 2>/dev/null || echo none)"
        say "anonproxy needs Python 3.12 or newer; the python3 found here: $found."
    fi
    fail "Any one of these provides it; then run this again:" \
        "  Debian 13, Ubuntu 24.04 or later:  sudo apt-get install python3 python3-venv" \
        "  with pyenv:                        pyenv install 3.13" \
        "  with uv:                           uv python install 3.13"
}

# --- installing system packages -----------------------------------------------------------------------------

can_apt() { [ "$(id -u)" = 0 ] && type -P apt-get >/dev/null; }

apt_install() {
    say "Installing $* (apt-get)…"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        </dev/null >>"$SETUP_LOG" 2>&1 || { say "apt-get failed; its log is in $SETUP_LOG"; return 1; }
}

# --- making the environment ---------------------------------------------------------------------------------

# What .venv must have been made from: this folder (its scripts carry the path), these pins, this package.
wanted() { # LOCK
    echo "$ROOT"
    cksum <"$ROOT/$1"
    sed '/^\[tool\./,$d' "$ROOT/pyproject.toml" | cksum
    "$VENV/bin/python" -VV
}

is_ready() { # LOCK
    [ -x "$VENV/bin/python" ] && [ -f "$VENV/made-from-$1" ] && cmp -s "$VENV/made-from-$1" <(wanted "$1" 2>&1)
}

make_venv() {
    local python uv
    if ! find_python >/dev/null && can_apt && { first_python_that "$IS_RECENT" || ! type -P python3; } >/dev/null; then
        apt_install python3 python3-venv || true
    fi
    if python="$(find_python)"; then
        say "Setting up the environment with $("$python" --version) (once, about a minute)…"
        "$python" -m venv "$VENV" >>"$SETUP_LOG" 2>&1
    elif uv="$(find_uv)"; then
        say "Setting up the environment with uv and Python 3.13 (once, about a minute)…"
        "$uv" venv --seed --python 3.13 "$VENV" >>"$SETUP_LOG" 2>&1 ||
            "$uv" venv --seed --python '>=3.12' "$VENV" >>"$SETUP_LOG" 2>&1 || {
            say "uv failed (its log is in $SETUP_LOG):" "$(tail -n 1 "$SETUP_LOG")"
            explain_missing_python
        }
    else
        explain_missing_python
    fi
}

install_into_venv() { # LOCK
    "$VENV/bin/python" -m pip install --require-hashes -r "$ROOT/$1" &&
        "$VENV/bin/python" -m pip install --no-deps --no-build-isolation -e "$ROOT"
} >>"$SETUP_LOG" 2>&1

# Interrupted anywhere, it leaves no made-from file for what is half done, and the next start does that anew.
build_env() { # LOCK; requirements-dev.txt contains requirements.txt, so one is installed over the other
    local started=$SECONDS lock
    : >"$SETUP_LOG"
    if is_ready requirements.txt; then
        say "Adding the test tools to the environment (once)…"
    else
        rm -rf "$VENV"
        make_venv || explain_failure
    fi
    install_into_venv "$1" || explain_failure
    for lock in requirements.txt "$1"; do wanted "$lock" >"$VENV/made-from-$lock"; done
    say "Ready after $((SECONDS - started)) s."
}

explain_failure() { fail "$(tail -n 5 "$SETUP_LOG")" "" "Setting up failed; the whole log is in $SETUP_LOG"; }

need_env() { # LOCK
    if ! is_ready "$1"; then
        ( # one at a time, where flock exists: whoever comes second finds it made
            if type -P flock >/dev/null; then flock 9; fi
            is_ready "$1" || build_env "$1"
        ) 9>"$VENV.lock" || exit
    fi
    PATH="$VENV/bin:$PATH"
}
