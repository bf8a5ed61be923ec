#!/usr/bin/env bash
# Looks for known mistakes in the code (bandit) and for known holes in what the proxy needs (pip-audit, which asks the
# network; without one that is said, and is no failure).
set -euo pipefail
cd "$(dirname "$0")/.."
room=.cache/audit
if [ "$(cat "$room/lock" 2>/dev/null)" != "$(sha256sum <requirements/audit.lock)" ]; then
    rm -rf "$room" && mkdir -p "$room"
    .venv/bin/python -m venv "$room/venv"
    "$room/venv/bin/pip" --quiet install --require-hashes -r requirements/audit.lock
    sha256sum <requirements/audit.lock >"$room/lock"
fi
# B608: statements are put together of our own column names and question marks; values are always bound.
"$room/venv/bin/bandit" --quiet --recursive --severity-level medium --skip B608 schemas policies proxy
for lock in run client demo; do
    code=0
    said=$("$room/venv/bin/pip-audit" --progress-spinner off --disable-pip --require-hashes -r "requirements/$lock.lock" 2>&1) || code=$?
    if [ $code -ne 0 ] && grep -qiE 'connection|resolve|unreachable|timed out|proxyerror' <<<"$said"; then
        echo "NOT CHECKED, no network: requirements/$lock.lock" >&2
    else
        echo "$said"
        [ $code -eq 0 ] || exit $code
    fi
done
