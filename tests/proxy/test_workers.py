"""Several workers on one port: `python -m proxy serve` with `server.workers`, and signals."""

import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy import workers

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """\
server: {{workers: {workers}, drain_s: 5{server}}}
store: {store}
providers:
  up: {{base_url: "http://127.0.0.1:9/v1"}}
models:
  mini: {{provider: up, price: {{input: 1, output: 2}}}}
routes:
  default: {{ladder: [mini]}}
"""


def config(workers=2, store="sqlite:///ledger.db", server=""):
    return CONFIG.format(workers=workers, store=store, server=server)


class Serving:
    """A supervisor and its workers."""

    def __init__(self, folder, text):
        self.file = folder / "tailrace.yaml"
        self.file.write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "--port", "0"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told = self.line_with("listens at")
        self.port = int(re.search(r":(\d+)/v1", self.told)[1])

    def line_with(self, words):
        told = []
        for line in self.process.stderr:
            if words in line:
                return line
            told.append(line)
        raise AssertionError("".join(told))

    @property
    def workers(self):
        """The process numbers of the workers."""
        number = self.process.pid
        return {int(n) for n in pathlib.Path(f"/proc/{number}/task/{number}/children").read_text().split()}

    def get(self, path="/healthz", method="GET", body=None, headers=None, port=None):
        """One request on a connection of its own; its status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def end(self):
        """SIGTERM; gives the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def serve(tmp_path):
    """Serves a configuration; ends with the test."""
    started = []

    def start(text=None):
        started.append(Serving(tmp_path, text or config()))
        return started[-1]

    yield start
    for serving in started:
        serving.process.kill()
        serving.process.wait(20)
        serving.process.stderr.close()


def until(true, seconds=10):
    """Wait until `true()`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to it"
        time.sleep(0.02)


def test_administration_has_an_address_of_its_own_and_every_worker_serves_it(serve):
    serving = serve(config(server=", admin_listen: '127.0.0.1:0'"))
    admin = int(re.search(r"http://127\.0\.0\.1:(\d+) only", serving.line_with("Administration"))[1])
    assert {serving.get("/metrics")[0] for _ in range(5)} == {404}
    status, text = serving.get("/metrics", port=admin)
    assert (status, "tailrace_requests_total" in text) == (200, True)
    assert serving.get("/v1/schemas/age", "PUT", '{"type": "integer"}', port=admin)[0] == 201
    until(lambda: {serving.get("/v1/schemas/age")[0] for _ in range(20)} == {200})
    serving.process.send_signal(signal.SIGHUP)
    serving.line_with("every worker is a new one")
    assert {serving.get("/admin/keys", port=admin)[0] for _ in range(20)} == {200}
    assert serving.end() == 0


def test_two_workers_serve_one_port_and_their_metrics_are_one(serve):
    serving = serve()
    assert "2 workers" in serving.told
    assert len(serving.workers) == 2
    assert {serving.get()[0] for _ in range(40)} == {200}
    wanted = 'tailrace_requests_total{route="none",status="200"}'

    def counted():
        line = next(x for x in serving.get("/metrics")[1].splitlines() if x.startswith(wanted))
        return float(line.split()[-1])

    until(lambda: counted() >= 40)
    assert serving.end() == 0


def test_what_is_registered_with_one_worker_is_soon_known_to_all(serve):
    serving = serve()
    assert serving.get("/v1/schemas/age", "PUT", '{"type": "integer"}')[0] == 201
    assert serving.get("/v1/routes/default/schema", "PUT", '{"schema": "age", "version": null}')[0] == 200
    until(lambda: {serving.get("/v1/schemas/age")[0] for _ in range(20)} == {200})
    assert serving.get("/v1/schemas/age", "DELETE")[0] == 200
    until(lambda: {serving.get("/v1/schemas/age")[0] for _ in range(20)} == {404})
    assert serving.end() == 0


class Slow(http.server.BaseHTTPRequestHandler):
    """A model that takes its time, and writes as many tokens as it may."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)
        time.sleep(0.3)
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "length"}
        usage = {"prompt_tokens": 10, "completion_tokens": asked["max_tokens"], "total_tokens": 110}
        body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def slow_model():
    """An upstream; `asked` are the requests that it got."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.asked, server.daemon_threads = [], True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_sixty_four_requests_against_a_budget_for_ten_let_ten_through_two_workers(serve, slow_model):
    """Each may cost 0.001 USD and does; all of them come before the first is answered, to both processes."""
    text = config().replace("http://127.0.0.1:9/v1", f"http://127.0.0.1:{slow_model.server_port}/v1")
    text = text.replace("input: 1, output: 2", "input: 0, output: 10")
    serving = serve(
        text + "keys: [{name: team, key: sk-team, admin: true, budget: {usd: 0.01, per: total}}]\n"
    )
    key = {"authorization": "Bearer sk-team"}
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 100})
    all_there = threading.Barrier(64)

    def ask(_):
        all_there.wait()
        return serving.get("/v1/chat/completions", "POST", body, key | {"content-type": "application/json"})

    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(ask, range(64)))
    statuses = [status for status, _ in answers]
    assert (statuses.count(200), statuses.count(429)) == (10, 54)
    assert {json.loads(said)["error"]["code"] for status, said in answers if status == 429} == {
        "insufficient_quota"
    }
    assert len(slow_model.asked) == 10

    def spent():
        total = json.loads(serving.get("/v1/usage", headers=key)[1])["total"]
        return total["attempts"], float(total["cost_usd"])

    until(lambda: spent() == (10, 0.01))

    def counted():
        lines = serving.get("/metrics", headers=key)[1].splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("tailrace_attempts_total{"))

    until(lambda: counted() == 10)
    assert serving.end() == 0


def test_a_rolling_restart_refuses_nobody_and_replaces_everybody(serve):
    serving = serve()
    before = serving.workers
    statuses, failures, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                statuses.append(serving.get()[0])
            except OSError as error:
                failures.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    serving.file.write_text(config().replace("mini]", "mini], cache: {ttl_s: 60}"))
    serving.process.send_signal(signal.SIGHUP)
    assert serving.line_with("Reloaded") == "Reloaded: every worker is a new one.\n"
    until(lambda: len(serving.workers) == 2)
    stop.set()
    for thread in asking:
        thread.join()
    assert not serving.workers & before
    assert not failures
    assert set(statuses) == {200}
    assert len(statuses) > 20
    assert serving.end() == 0


def test_a_broken_configuration_changes_nothing(serve):
    serving = serve()
    before = serving.workers
    serving.file.write_text(config() + "nonsense: 1\n")
    serving.process.send_signal(signal.SIGHUP)
    serving.line_with("Not reloaded, the configuration before stays")
    assert serving.workers == before
    assert serving.get()[0] == 200


def test_a_worker_that_was_killed_is_started_again_and_others_serve_meanwhile(serve):
    serving = serve()
    before = serving.workers
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    assert "was killed by SIGKILL; started again" in serving.line_with("Worker ")
    assert {serving.get()[0] for _ in range(10)} == {200}  # those of the empty place wait for its next worker
    until(lambda: len(serving.workers) == 2)
    assert killed not in serving.workers
    assert serving.end() == 0


def test_workers_end_with_their_supervisor_however_it_ends(serve):
    serving = serve()
    left = serving.workers
    serving.process.kill()
    serving.process.wait(10)
    until(
        lambda: not any(pathlib.Path(f"/proc/{number}/cmdline").exists() and alive(number) for number in left)
    )


def alive(number):
    """Whether a process runs: not ended and waiting for whoever should ask."""
    try:
        return pathlib.Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_signal_to_all_of_the_group_still_drains(serve):
    serving = serve()
    for number in (*serving.workers, serving.process.pid):
        os.kill(number, signal.SIGTERM)
    assert serving.process.wait(20) == 0


def test_a_taken_port_is_told_in_one_line(serve, tmp_path):
    serving = serve()
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "--port", str(serving.port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert f"port {serving.port} of 127.0.0.1 is taken" in done.stderr


def test_workers_without_a_store_to_share_do_not_start(tmp_path):
    (tmp_path / "tailrace.yaml").write_text(config(store='"memory:"'))
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "server.workers > 1 needs a store that processes can share" in done.stderr


SUPERVISED = """
import sys
from proxy import workers

def work(post):
    sys.exit(3)

supervisor = workers.Supervisor(workers.bind("127.0.0.1", 0, 2), work, say=print, renewed=lambda: None)
sys.exit(supervisor.run(lambda: print("ready")))
"""


def test_workers_that_never_listen_end_the_supervisor():
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISED], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "ready" not in done.stdout


def test_sockets_of_one_address_are_bound_together_and_not_where_one_is_taken():
    sockets = workers.bind("127.0.0.1", 0, 3)
    address = sockets[0].getsockname()
    assert {s.getsockname() for s in sockets} == {address}
    with pytest.raises(OSError, match="in use"):
        workers.bind(*address, 1)
    for bound in sockets:
        bound.close()
