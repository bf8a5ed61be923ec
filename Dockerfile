# Tailrace in a container. The configuration is mounted, the ledger lives in /data, nothing else is written:
#
#   docker build -t tailrace .
#   docker run --read-only --tmpfs /tmp -p 8080:8080 -v ./tailrace.yaml:/etc/tailrace/tailrace.yaml:ro \
#       -v tailrace:/data -e OPENAI_API_KEY tailrace
#
# The configuration needs `keys`: the proxy is never open on a host that others reach.
# tools/prove_dockerfile.py carries these steps out without a container engine.

# The tag says what the digest is; a newer one: docker buildx imagetools inspect python:3.13-slim-trixie
FROM python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS build
WORKDIR /opt/tailrace
COPY requirements/run.lock requirements/run.lock
RUN python3 -m venv env \
    && env/bin/python -m pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: -r requirements/run.lock
COPY schemas schemas
COPY policies policies
COPY proxy proxy
COPY LICENSE LICENSE
# The hot path as machine code; compiler and mypy stay behind in this stage.
COPY requirements/compile.lock requirements/compile.lock
COPY tools/compile.py tools/compile.py
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
    && env/bin/python -m pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: --target compile -r requirements/compile.lock \
    && PYTHONPATH="$PWD/compile" env/bin/python tools/compile.py --must \
    && env/bin/python -m pip uninstall --quiet --yes pip \
    && rm -r compile tools requirements
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash env/lib schemas policies proxy \
    && install -d -o 10001 -g 10001 data

FROM python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285
COPY --from=build /opt/tailrace /opt/tailrace
COPY --from=build --chown=10001:10001 /opt/tailrace/data /data
ENV PYTHONPATH=/opt/tailrace PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python3", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/tailrace/env/bin/python", "-m", "proxy"]
CMD ["serve", "--config", "/etc/tailrace/tailrace.yaml", "--host", "0.0.0.0", "--port", "8080"]
