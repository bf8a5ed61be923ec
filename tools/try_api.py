"""Asks a running proxy, in front of a scripted upstream, whatever docs/openapi.yaml allows and does not: `make fuzz`.

`python tools/try_api.py PATH-TO-SCHEMATHESIS SECONDS`. Whether an answer is as described is checked; whether what the description
allows is accepted is not: it does not know which models and routes there are, and other members, methods and paths go to the provider as they are.
"""

import asyncio
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.proxy.scripted import Upstream, proxy  # noqa: E402  the checkout is on the path now

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance"),
)


async def main(schemathesis: str, seconds: str) -> int:
    """The exit status of schemathesis."""
    async with Upstream('{"age": 7}').running() as upstream, proxy(upstream) as app:
        run = await asyncio.create_subprocess_exec(
            *(schemathesis, "run", str(ROOT / "docs" / "openapi.yaml"), "--url", app.url, "--no-color"),
            *("--checks", ",".join(CHECKS), "--max-time", seconds, "--exclude-operation-id", "reload"),
            cwd=ROOT / ".cache",
        )
        return await run.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
