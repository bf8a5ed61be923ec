#!/usr/bin/env python3
"""Carries the steps of the Dockerfile out without a container engine, then runs what they made.

    sudo tools/prove_dockerfile.py --base DIR [--keep]

DIR is a Debian root with python3, its headers and venv; it stands in for the base image and stays as it is:

    debootstrap --variant=minbase --include=python3-dev,python3-venv,ca-certificates trixie DIR

Each stage is a copy of it, in which RUN is carried out by chroot and COPY takes what .dockerignore lets in. The
result is mounted read-only, with a fresh /tmp and the volume /data, and started as USER with ENTRYPOINT and CMD;
HEALTHCHECK must pass, the process must have written nothing else, and it must end with 0 after STOPSIGNAL. Needs
root and Linux. An instruction that it does not know is an error, not a step left out.
"""

import argparse
import ctypes
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = """\
providers: {nowhere: {base_url: "http://127.0.0.1:9/v1"}}
models: {nothing: {provider: nowhere, name: nothing, price: {input: 0, output: 0}}}
routes: {default: {ladder: [nothing]}}
keys: [{name: prover, key: a-key-for-this-run-only}]
"""
PASSED_ON = ("PIP_CERT", "SSL_CERT_FILE", "PIP_INDEX_URL", "HTTPS_PROXY", "https_proxy")
"""Of this environment, for RUN: how the network is reached is the machine's matter, not the image's."""


class Stage:
    """A root folder with the settings that the instructions so far have made."""

    def __init__(self, folder: pathlib.Path, base: pathlib.Path) -> None:
        self.folder = folder
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.workdir = "/"
        self.settings: dict[str, str] = {}
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(folder)], check=True)

    def at(self, path: str) -> pathlib.Path:
        return self.folder / str(pathlib.PurePosixPath(self.workdir, path)).lstrip("/")

    def chroot(self, command: list[str], *, user: str | None = None) -> list[str]:
        """The command line that runs `command` in here, with this stage's environment and folder."""
        pairs = [f"{name}={value}" for name, value in self.environment.items()]
        inside = ["/usr/bin/env", "-i", f"--chdir={self.workdir}", *pairs, *command]
        return ["chroot", *([f"--userspec={user}"] if user else []), str(self.folder), *inside]

    def run(self, command: str) -> None:
        passed_on = [f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]
        subprocess.run(self.chroot(["/usr/bin/env", *passed_on, "/bin/sh", "-c", command]), check=True)

    def copy(self, line: str, context: pathlib.Path, stages: dict[str, "Stage"]) -> None:
        words = shlex.split(line)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        place = self.at(target)
        for source in sources:
            if "from" in options:
                found = stages[options["from"]].folder / source.lstrip("/")
            else:
                found = context / source
            if found.is_dir():
                shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, place / found.name if place.is_dir() else place)
        if "chown" in options:
            subprocess.run(["chown", "-R", options["chown"], str(place)], check=True)


def make_context(made: pathlib.Path) -> None:
    """What .dockerignore lets into the build: `*`, then `!PATH` lines, then `**/NAME` to leave out."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    left_out = shutil.ignore_patterns(*[line[3:] for line in lines if line.startswith("**/")])
    for path in [line[1:] for line in lines if line.startswith("!")]:
        source, target = ROOT / path, made / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=left_out)
        else:
            shutil.copy2(source, target)


def steps() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines]


def build(base: pathlib.Path, work: pathlib.Path) -> Stage:
    context = work / ".context"
    make_context(context)
    stages: dict[str, Stage] = {}
    stage = None
    for word, rest in steps():
        print(f"{word} {rest[:100]}", flush=True)
        if word == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "final"
            stage = stages[name] = Stage(work / name, base)
            continue
        assert stage is not None
        if word == "RUN":
            stage.run(rest)
        elif word == "COPY":
            stage.copy(rest, context, stages)
        elif word == "WORKDIR":
            stage.workdir = rest
            stage.at("").mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word in {"USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}:
            stage.settings[word] = rest
        else:
            raise SystemExit(f"{word}: this prover does not know it")
    assert stage is not None
    return stage


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def own_network() -> None:
    """From here on this process and its children have a network of their own, with a loopback and nothing else."""
    clone_newnet, siocsifflags, iff_up = 0x40000000, 0x8914, 1  # linux/sched.h, linux/sockios.h, linux/if.h
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sh22x", b"lo", iff_up))


def prove(stage: Stage) -> None:
    """Start it the way an engine would with --read-only, --tmpfs /tmp and a volume at /data."""
    config = stage.folder / "etc/tailrace/tailrace.yaml"
    config.parent.mkdir()
    config.write_text(CONFIG)
    folder = str(stage.folder)
    mount("--bind", folder, folder)
    mount("-t", "proc", "proc", f"{folder}/proc")
    mount("--bind", "/dev", f"{folder}/dev")
    mount("-t", "tmpfs", "tmpfs", f"{folder}/tmp")
    mount("--bind", f"{folder}/data", f"{folder}/data")
    mount("-o", "remount,bind,ro", folder)

    own_network()  # else a server of somebody else's at that port would look healthy
    user = stage.settings["USER"]
    command = json.loads(stage.settings["ENTRYPOINT"]) + json.loads(stage.settings["CMD"])
    health = json.loads("[" + stage.settings["HEALTHCHECK"].split(" CMD [", 1)[1])
    began = time.monotonic()
    process = subprocess.Popen(stage.chroot(command, user=user))
    try:
        while subprocess.run(stage.chroot(health, user=user), capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() - began > 20:
                raise SystemExit(f"not healthy; exit code {process.poll()}")
            time.sleep(0.1)
        print(f"healthy after {time.monotonic() - began:.1f} s as user {user} on a read-only root")
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert set(ids) == {user.split(":")[0]}, ids
        process.send_signal(signal.Signals[stage.settings["STOPSIGNAL"]])
        code = process.wait(40)
    finally:
        process.kill()
    if code != 0:
        raise SystemExit(f"ended with {code} after {stage.settings['STOPSIGNAL']}")
    written = subprocess.check_output(
        ["find", folder, "-xdev", "-newer", str(config), "-type", "f"], text=True
    )
    assert not [line for line in written.split() if not line.startswith(f"{folder}/data/")], written
    ledger = sorted(path.name for path in (stage.folder / "data").iterdir())
    print(f"ended with 0 after {stage.settings['STOPSIGNAL']}; wrote {ledger} in /data, nothing else")
    tools = [
        name
        for name in ("pip", "ruff", "pytest", "mypy")
        if (stage.folder / f"opt/tailrace/env/bin/{name}").exists()
    ]
    assert not tools, tools


def size(folder: pathlib.Path) -> float:
    """MB on disk of the files in it."""
    return int(subprocess.check_output(["du", "-sk", "--apparent-size", str(folder)]).split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--base", type=pathlib.Path, required=True, help="a Debian root with python3-dev and python3-venv"
    )
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.in_namespace:  # mounts made there end with it
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv, "--in-namespace"])
    with tempfile.TemporaryDirectory(prefix="image-") as work:
        stage = build(arguments.base.resolve(), pathlib.Path(work))
        added = stage.folder / "opt/tailrace"
        print(
            f"added to the base image: {size(added):.0f} MB, of which the environment is {size(added / 'env'):.0f} MB"
        )
        try:
            prove(stage)
        finally:
            subprocess.run(
                ["umount", "--recursive", "--lazy", str(stage.folder)], check=False, stderr=subprocess.DEVNULL
            )


if __name__ == "__main__":
    main()
