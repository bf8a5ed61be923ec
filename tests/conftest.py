"""The hot path as it stands, or, with TAILRACE_NATIVE=1, as `make compile` built it (see proxy/native.py)."""

import os

from proxy import native

if os.environ.get(native.WANTED) == "1" and not native.use():
    raise RuntimeError("the compiled hot path is missing or stale: make compile")
