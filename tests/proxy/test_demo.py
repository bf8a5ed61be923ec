"""The demo: which upstream it takes, that its configurations load, and that what it prints works as printed."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

from proxy import config, demo
from proxy.demo import CLOUDS, UnknownDemoError, choose

ROOT = pathlib.Path(__file__).parents[2]
BY_NAME = {cloud.name: cloud for cloud in CLOUDS}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, "local", id="no-key-is-local"),
        pytest.param({"OPENAI_API_KEY": ""}, "local", id="empty-key-is-no-key"),
        pytest.param({"GROQ_API_KEY": "k"}, BY_NAME["groq"], id="a-key-is-its-provider"),
        pytest.param({"GROQ_API_KEY": "k", "OPENAI_API_KEY": "k"}, BY_NAME["openai"], id="openai-goes-first"),
        pytest.param({"OPENAI_API_KEY": "k", "TAILRACE_DEMO": "local"}, "local", id="local-although-key"),
        pytest.param(
            {"OPENAI_API_KEY": "k", "TAILRACE_DEMO": "scripted"}, "scripted", id="scripted-although-key"
        ),
        pytest.param(
            {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k", "TAILRACE_DEMO": "groq"}, BY_NAME["groq"], id="named"
        ),
    ],
)
def test_environment_chooses_the_upstream(environ, expected):
    assert choose(environ) == expected


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        pytest.param({"TAILRACE_DEMO": "lokal"}, "expected local, scripted, openai", id="unknown"),
        pytest.param(
            {"TAILRACE_DEMO": "groq", "OPENAI_API_KEY": "k"}, "GROQ_API_KEY is not set", id="no-key"
        ),
    ],
)
def test_wrong_choice_says_what_it_may_be(environ, words):
    with pytest.raises(UnknownDemoError, match=words):
        choose(environ)


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.name)
def test_configuration_of_each_provider_is_complete_and_holds_no_key(cloud):
    environ = {cloud.key: "sk-secret"}
    made = demo.cloud_demo(cloud, environ)
    assert "sk-secret" not in made.text + made.model + "".join(made.notes)
    snapshot = config.loads(made.text, name="demo", environ=environ, base_dir=ROOT)
    provider = snapshot.providers[cloud.name]
    assert provider.base_url == cloud.base_url
    assert provider.api_key.reveal() == "sk-secret"
    assert snapshot.routes["contact"].ladder == ("small", "large")
    assert snapshot.routes["default"].ladder == ("small",)
    assert snapshot.models["small"].price.output < snapshot.models["large"].price.output


def test_key_for_a_gateway_goes_to_that_gateway_only():
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://gateway.example/v1"}
    made = demo.cloud_demo(BY_NAME["openai"], environ)
    snapshot = config.loads(made.text, name="demo", environ=environ, base_dir=ROOT)
    assert snapshot.providers["openai"].base_url == "https://gateway.example/v1"


def test_local_model_climbs_from_asked_freely_to_held_to_the_schema():
    made = demo.local_demo("http://127.0.0.1:1/v1")
    snapshot = config.loads(made.text, name="demo", environ={}, base_dir=ROOT)
    cards = [snapshot.models[alias] for alias in snapshot.routes["contact"].ladder]
    assert [card.can for card in cards] == [None, frozenset({"json_schema"})]
    assert {card.name for card in cards} == {"smollm2-135m-instruct"}
    assert all(card.price.input == card.price.output == 0 for card in cards)


async def test_without_the_local_model_a_script_answers_and_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(demo.local_model, "ROOT", pathlib.Path("/"))  # the child finds no proxy package there
    said = []
    async with demo.running({}, said.append) as made:
        assert made.kind == "scripted"
        snapshot = config.loads(made.text, name="demo", environ={}, base_dir=ROOT)
        assert snapshot.routes["contact"].ladder == ("small",)
    assert any("could not be loaded" in line and "scripted upstream answers instead" in line for line in said)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`serve` as a user starts it in an empty folder, with the scripted upstream; gives what it printed."""
    port = free_port()
    environ = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "serve", "--port", str(port)],
        cwd=tmp_path_factory.mktemp("demo"),
        env={**environ, "PYTHONPATH": str(ROOT), "TAILRACE_DEMO": "scripted", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C ends it" in line:
                break
        yield "".join(lines)
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


def test_printed_python_works_as_pasted(served):
    snippet = served[served.index("from openai import") : served.index("A route with a schema")]
    done = subprocess.run(
        [sys.executable, "-"], input=snippet, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("[scripted model, not an LLM]")


needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="the curl lines are not tested: no curl here"
)


@needs_curl
def test_printed_curl_lines_work_as_pasted(served):
    lines = [line for line in served.splitlines() if line.startswith("curl ")]
    replies = [
        subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True).stdout
        for line in lines
    ]
    assert len(replies) == 2
    assert "[scripted model, not an LLM]" in replies[0]
    assert "HTTP/1.1 200" in replies[1]
    assert "x-tailrace-schema: repaired" in replies[1].lower()
    assert "Nowhere" in replies[1]


def test_greeting_warns_of_the_script_and_only_of_it():
    assert "Every reply is labelled" in demo.greeting("http://127.0.0.1:1", "scripted", "a script")
    assert "labelled" not in demo.greeting("http://127.0.0.1:1", "local", "SmolLM2")
