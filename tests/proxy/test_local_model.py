"""The child process of the local model: its life, its end, what it says when it fails; and the real model once."""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from proxy import local_model
from proxy.local_model import LocalModel, ModelUnavailableError

ROOT = pathlib.Path(__file__).parents[2]

# Plays the child's part: it says `ready` with its port, and ends with its standard input as the real one does.
STAND_IN = """
import os, socket, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
listening = socket.create_server(("127.0.0.1", port))
print("ready http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


def stand_in(code: str = STAND_IN) -> LocalModel:
    return LocalModel((sys.executable, "-c", code))


def gone(pid: int, within_s: float = 5) -> bool:
    """True once no process has this id; one that ended and was not waited for counts as gone."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


async def until(condition, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_child_is_gone_after_stop():
    model = stand_in()
    base_url = await model.start(lambda _: None)
    pid = model.pid
    assert base_url.startswith("http://127.0.0.1:")
    assert base_url.endswith("/v1")
    await model.stop()
    assert gone(pid)
    assert model.pid is None


async def test_stop_before_start_and_twice_is_no_error():
    model = stand_in()
    await model.stop()
    await model.start(lambda _: None)
    await model.stop()
    await model.stop()


async def test_child_that_ignores_the_end_of_its_input_is_killed(monkeypatch):
    monkeypatch.setattr(local_model, "STOP_S", 0.3)
    model = stand_in(STAND_IN.replace("sys.stdin.read()", "import time; time.sleep(60)"))
    await model.start(lambda _: None)
    pid = model.pid
    await model.stop()
    assert gone(pid)


async def test_dead_child_is_started_again_at_the_same_port():
    said = []
    model = stand_in()
    base_url = await model.start(said.append)
    try:
        first = model.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: model.pid != first)
        assert model.base_url == base_url
        assert any("died (ended by SIGKILL" in line and "1 of 3" in line for line in said)
    finally:
        await model.stop()


async def test_child_that_keeps_dying_is_not_started_for_ever(tmp_path):
    count = tmp_path / "starts"
    code = f"open({str(count)!r}, 'a').write('x'); " + "print('ready http://127.0.0.1:1', flush=True)"
    said = []
    model = stand_in(code)
    await model.start(said.append)
    try:
        await until(lambda: any("not started again" in line for line in said))
        assert len(count.read_text()) == 1 + local_model.RESTARTS
    finally:
        await model.stop()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(
            "raise SystemExit('no wheel for this machine')", "no wheel for this machine", id="says-why"
        ),
        pytest.param("import os; os.kill(os.getpid(), 4)", "SIGILL", id="processor-too-old"),
        pytest.param("print('hello', flush=True)", "could not be loaded", id="says-something-else"),
    ],
)
async def test_child_that_cannot_serve_is_an_error_of_one_line(code, reason):
    model = stand_in(code)
    with pytest.raises(ModelUnavailableError, match=reason) as caught:
        await model.start(lambda _: None)
    assert "\n" not in str(caught.value)
    await model.stop()


async def test_silent_child_is_killed_after_the_time_limit(monkeypatch):
    monkeypatch.setattr(local_model, "LOAD_S", 1.5)
    said = []
    model = stand_in("import time; time.sleep(60)")
    with pytest.raises(ModelUnavailableError, match="did not answer"):
        await model.start(said.append)
    assert any("loading" in line for line in said)
    await model.stop()


async def test_child_sees_no_keys(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    seen = tmp_path / "environment"
    model = stand_in(f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))\n{STAND_IN}")
    await model.start(lambda _: None)
    await model.stop()
    assert "sk-secret" not in seen.read_text()
    assert "PATH" in seen.read_text()


async def test_start_that_is_cancelled_leaves_no_child(tmp_path):
    pid_file = tmp_path / "pid"
    model = stand_in(f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    starting = asyncio.ensure_future(model.start(lambda _: None))
    await until(lambda: pid_file.exists() and pid_file.read_text())
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert gone(int(pid_file.read_text()))
    await model.stop()


def test_file_with_other_content_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"something else")
    with pytest.raises(ModelUnavailableError, match="expected " + local_model.SHA256):
        local_model.verified(path)


def test_proxy_never_imports_the_native_server():
    code = "import sys, proxy.demo, proxy.local_model; assert 'xllamacpp' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nothing_of_a_child_is_left_behind_in_the_event_loop():
    """Neither of one that was stopped nor of one that failed: no warning, not even when the loop is closed at once."""
    code = f"""
import asyncio, sys
from proxy import local_model
from proxy.local_model import LocalModel, ModelUnavailableError

async def main():
    model = LocalModel((sys.executable, "-c", {STAND_IN!r}))
    await model.start(lambda line: None)
    await model.stop()
    local_model.LOAD_S = 0.5
    try:
        await LocalModel((sys.executable, "-c", "import time; time.sleep(60)")).start(lambda line: None)
    except ModelUnavailableError:
        pass

asyncio.run(main())
"""
    command = [sys.executable, "-X", "dev", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""


real = pytest.mark.skipif(
    local_model.missing() is not None, reason=f"the real model is not tested: {local_model.missing()}"
)


def fetch(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


@real
async def test_real_model_answers_and_stops_where_the_request_sets_no_limit():
    model = LocalModel((sys.executable, "-m", "proxy.local_model", "--max-tokens", "6"))
    base_url = await model.start(lambda _: None)
    try:
        body = {
            "messages": [{"role": "user", "content": "Write a long story about a fox."}],
            "temperature": 0,
        }
        reply = await asyncio.to_thread(fetch, f"{base_url}/chat/completions", body)
        assert reply["choices"][0]["message"]["content"]
        assert reply["choices"][0]["finish_reason"] == "length"
        assert reply["usage"]["completion_tokens"] == 6
    finally:
        pid = model.pid
        await model.stop()
    assert gone(pid)


@real
def test_real_model_does_not_outlive_a_proxy_that_was_killed():
    code = """
import asyncio
from proxy.local_model import LocalModel

async def main():
    model = LocalModel()
    await model.start(lambda line: None)
    print(model.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid, within_s=0.1)
        parent.kill()
    assert gone(pid)
