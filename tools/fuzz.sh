#!/usr/bin/env bash
# Fuzzes each reader of hostile text for SECONDS_EACH seconds (60), in a .venv of its own. Linux only.
set -euo pipefail
cd "$(dirname "$0")/.."
room=.cache/fuzz
if [ "$(cat "$room/lock" 2>/dev/null)" != "$(cat requirements/run.lock requirements/fuzz.lock | sha256sum)" ]; then
    rm -rf "$room/venv" && mkdir -p "$room"
    .venv/bin/python -m venv "$room/venv"
    "$room/venv/bin/pip" --quiet install --require-hashes -r requirements/run.lock -r requirements/fuzz.lock
    cat requirements/run.lock requirements/fuzz.lock | sha256sum >"$room/lock"
fi
for target in ${TARGETS:-sse lenient schema body config api}; do
    echo "== $target"
    if [ "$target" = api ]; then
        .venv/bin/python tools/try_api.py "$PWD/$room/venv/bin/schemathesis" "${SECONDS_EACH:-60}"
        continue
    fi
    mkdir -p "$room/$target" "$room/found"
    "$room/venv/bin/python" tools/fuzz.py "$target" "$room/$target" -max_total_time="${SECONDS_EACH:-60}" -max_len=2000 \
        -timeout=5 -rss_limit_mb=2048 -artifact_prefix="$room/found/$target-" -print_final_stats=0 -verbosity=0
done
