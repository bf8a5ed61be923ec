"""Every example of the README is run: against the demo as a newcomer starts it, with its real model where that is installed.

Where the model's wheel is missing a script plays its part; `test_the_examples_met_a_real_model` is skipped then and
says so. Nothing here depends on what a model says, only on what the README promises about it.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import jsonschema
import pytest
import yaml

from proxy import demo

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
URL = "http://127.0.0.1:8080"
"""Where the README says the proxy is."""
PATIENCE_S = 110

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="README'S CURL LINES ARE NOT TESTED: no curl here"
)


def blocks(language: str, words: str = "") -> list[str]:
    return [text for kind, text in BLOCKS if kind == language and words in text]


def block(language: str, words: str = "") -> str:
    (found,) = blocks(language, words)
    return found


def environ(**more: str) -> dict[str, str]:
    """Ours, without the keys of providers: the demo shall not call one."""
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and k != demo.CHOICE}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | more


def run(*command: str, cwd: pathlib.Path = ROOT, text: str | None = None, **more: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environ(**more), input=text, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The demo, started as `make run` starts it, in an empty folder; gives its URL and what it printed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "serve", "--port", str(port)],
        cwd=tmp_path_factory.mktemp("readme"),
        env=environ(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed = ""
        for line in process.stderr:
            printed += line
            if "Ctrl-C ends it" in line:
                break
        assert "Tailrace listens" in printed, printed
        yield f"http://127.0.0.1:{port}", printed
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stderr.close()


def test_the_examples_met_a_real_model(served):
    if "a script, not a language model" in served[1]:
        pytest.skip("THE README'S EXAMPLES RAN AGAINST A SCRIPT, NOT A MODEL: " + served[1].splitlines()[0])
    assert "running on this machine" in served[1]


def test_every_block_is_of_a_kind_that_is_run_here():
    known = {"curl": 2, "make": 2, "export": 1, "proxy check": 1}
    shell = blocks("bash")
    assert [[words for words in known if words in text] for text in shell].count([]) == 0
    assert {words: sum(words in text for text in shell) for words in known} == known
    assert len(blocks("python")) == len(blocks("yaml")) == len(blocks("http")) == 1
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "yaml", "http"}


@pytest.mark.parametrize(("target", "command"), [("run", "-m proxy serve"), ("test", "pytest")])
def test_the_two_commands_do_what_the_readme_says(target, command):
    assert block("bash", f"make {target}") == f"make {target}\n"
    assert command in run("make", "-n", target)


def test_the_first_requests_are_those_that_the_demo_prints():
    assert blocks("bash", "curl") == [demo.curl_line(URL) + "\n", demo.schema_curl_line(URL) + "\n"]
    assert block("python") == demo.python_snippet(URL)


@needs_curl
def test_the_first_request_is_answered(served):
    reply = json.loads(run("sh", "-c", blocks("bash", "curl")[0].replace(URL, served[0])))
    assert reply["choices"][0]["message"]["content"]
    assert reply["usage"]["total_tokens"] > 0


def test_the_python_example_streams_an_answer(served):
    assert len(run(sys.executable, "-", text=block("python").replace(URL, served[0]))) > 10


def head_and_body(reply: str) -> tuple[str, dict[str, str], str]:
    """Status line, headers by lower-case name, body."""
    head, _, body = reply.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines()
    return first, {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}, body


@pytest.fixture(scope="module")
def schema_reply(served):
    return head_and_body(run("sh", "-c", blocks("bash", "curl")[1].replace(URL, served[0])))


@needs_curl
def test_the_route_with_a_schema_keeps_its_promise(schema_reply):
    """A valid answer, an honest 422, or a cut answer that is called failed."""
    status, headers, body = schema_reply
    reply = json.loads(body)
    if " 422 " in status:
        assert (reply["error"]["code"], headers["x-tailrace-schema"]) == ("schema_unsatisfied", "failed")
        return
    assert " 200 " in status
    choice = reply["choices"][0]
    if headers["x-tailrace-schema"] == "failed":
        assert choice["finish_reason"] in ("length", "content_filter")
        return
    assert headers["x-tailrace-schema"] in ("valid", "repaired", "reasked", "escalated")
    schema = yaml.safe_load(demo.local_demo(URL).text)["schemas"]["contact"]
    jsonschema.validate(json.loads(choice["message"]["content"]), schema)


@needs_curl
def test_the_shown_reply_has_the_headers_of_a_real_one(schema_reply):
    shown_status, shown, _ = head_and_body(block("http"))
    status, headers, _ = schema_reply
    optional = {"x-tailrace-repairs", "x-should-retry"}
    transport = {"content-length", "date", "server"}
    assert shown_status == "HTTP/1.1 200 OK"
    assert status.startswith("HTTP/1.1 ")
    assert shown.keys() - optional == headers.keys() - optional - transport


def test_the_exported_variables_point_the_official_client_here(served):
    program = "from openai import OpenAI\nprint([m.id for m in OpenAI().models.list()])"
    exports = block("bash", "export").replace(URL, served[0])
    listed = run("sh", "-c", f'{exports}exec "$0" -c "$1"', sys.executable, program)
    assert "'contact'" in listed


def test_the_configuration_checks_clean_by_the_command_shown(tmp_path):
    (tmp_path / "tailrace.yaml").write_text(block("yaml"))
    command = block("bash", "proxy check").replace(".venv/bin/python", sys.executable)
    shown = run("sh", "-c", command, cwd=tmp_path, OPENAI_API_KEY="sk-secret")
    assert re.search(r"contact +mini > flagship +contact", shown)
    assert "UNPRICED" not in shown
    assert "sk-secret" not in shown


def test_the_way_to_the_story_of_a_request_is_short():
    where = TEXT[TEXT.index("## Where to look") :]
    assert "proxy/exchange.py" in next(line for line in where.splitlines() if line.startswith("| how"))
    assert len(TEXT.splitlines()) < 200
