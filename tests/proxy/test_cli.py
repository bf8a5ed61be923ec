"""`python -m proxy` as a user types it: what mistakes are told, and what signals do."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

from proxy import cli

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """\
store: "memory:"
providers:
  up: {base_url: "http://127.0.0.1:9/v1"}
models:
  mini: {provider: up, price: {input: 1, output: 2}}
routes:
  default: {ladder: [mini]}
"""


def run(*arguments, cwd):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


MISTAKES = [
    pytest.param([], "required: COMMAND", id="no-command"),
    pytest.param(["serv"], "choose from", id="unknown-command"),
    pytest.param(["check", "my.yaml"], "named by --config: --config my.yaml", id="file-without-its-option"),
    pytest.param(["serve", "--port", "x"], "invalid int value", id="port-is-no-number"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistyped_command_says_how_to_go_on(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert words in told
    assert "--help' shows what there is" in told


def test_check_tells_what_a_configuration_comes_to_and_keeps_its_exit_status(tmp_path):
    (tmp_path / "tailrace.yaml").write_text(CONFIG)
    good = run("check", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert re.search(r"default +mini", good.stdout)
    (tmp_path / "tailrace.yaml").write_text(CONFIG.replace("provider: up", "provider: upp"))
    bad = run("check", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "tailrace.yaml:5:20: models.mini.provider" in bad.stderr
    assert "did you mean 'up'" in bad.stderr


def test_check_without_a_file_names_where_to_start(tmp_path):
    done = run("check", cwd=tmp_path)
    assert done.returncode == 1
    assert "tailrace.yaml: cannot read this file" in done.stderr
    assert "examples/openai.yaml" in done.stderr


def test_a_taken_port_is_told_in_one_line(tmp_path):
    (tmp_path / "tailrace.yaml").write_text(CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"cannot start: port {port} of 127.0.0.1 is taken; --port names another, 0 a free one\n"
    )


@pytest.fixture
def serving(tmp_path):
    """`serve` on a free port with `CONFIG`; gives the file, the process and a reader of its next line."""
    path = tmp_path / "tailrace.yaml"
    path.write_text(CONFIG)
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )

    def line_with(words):
        return next(line for line in process.stderr if words in line)

    try:
        yield path, process, line_with
    finally:
        process.kill()
        process.wait(20)
        process.stderr.close()


def test_signals_reload_and_drain(serving):
    path, process, line_with = serving
    assert "(configuration: tailrace.yaml; routes: default)" in line_with("listens at")
    path.write_text(CONFIG.replace("store:", "server: {port: 1}\nstor:"))
    process.send_signal(signal.SIGHUP)
    line_with("Not reloaded, the configuration before stays")
    assert "did you mean 'store'" in line_with("unknown field")
    path.write_text(CONFIG.replace("memory:", "sqlite:///other.db"))
    process.send_signal(signal.SIGHUP)
    assert line_with("Reloaded") == "Reloaded. These wait for a restart: store.\n"
    process.send_signal(signal.SIGTERM)
    line_with("Draining")
    assert process.wait(20) == 0
