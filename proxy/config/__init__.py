"""YAML -> checked -> frozen: `load` and `loads` give a Snapshot, or say all that is wrong at once.

    text -> tree        YAML, with the place of each value        tree.py
    tree -> values      $NAME and file: resolved, secrets wrapped  environ.py
    values -> checked   types, names, references, schemas         models.py, validate.py, checks.py, schema_files.py
    checked -> Snapshot frozen                                    freeze.py

pydantic and PyYAML are imported with the first configuration that is read, not with this package.
"""

from collections.abc import Mapping
from pathlib import Path as FilePath

from proxy.config.problems import ConfigRefused, Problem, render_problems
from proxy.snapshot import Snapshot

__all__ = ["ConfigRefused", "Problem", "load", "loads", "render_check", "render_problems"]


def load(
    path: str | FilePath, environ: Mapping[str, str], *, host: str | None = None, port: int | None = None
) -> Snapshot:
    """The configuration in the file at `path`; other files in it are seen from its folder.

    `host` and `port` are those of the command line and win over the file's. Raises ConfigRefused.
    """
    from proxy.config.environ import reason  # noqa: PLC0415  # see the module's text
    from proxy.config.tree import MAX_BYTES  # noqa: PLC0415

    file = FilePath(path)
    name = str(path)
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigRefused([Problem(name, 0, 0, "", f"cannot read this file: {reason(error)}")]) from None
    except ValueError:
        raise ConfigRefused(
            [Problem(name, 0, 0, "", "cannot read this file: no file has such a name")]
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        problem = Problem(name, line, column, "", "not UTF-8; save the file as UTF-8")
        raise ConfigRefused([problem]) from None
    return loads(text, name=name, environ=environ, base_dir=file.parent, host=host, port=port)


def loads(
    text: str,
    *,
    name: str,
    environ: Mapping[str, str],
    base_dir: str | FilePath,
    host: str | None = None,
    port: int | None = None,
) -> Snapshot:
    """The configuration in `text`, which messages call `name`; files in it are seen from `base_dir`.

    `host` and `port` win over the text's. Raises ConfigRefused with all problems.
    """
    from proxy.config import tree as yaml_tree  # noqa: PLC0415  # PyYAML comes with it
    from proxy.config.calibrations import read_calibrations  # noqa: PLC0415
    from proxy.config.checks import Checks, Findings  # noqa: PLC0415
    from proxy.config.environ import Expansion  # noqa: PLC0415
    from proxy.config.problems import scrubbed  # noqa: PLC0415
    from proxy.config.schema_files import read_schemas  # noqa: PLC0415

    if len(text) > yaml_tree.MAX_BYTES:
        raise ConfigRefused([Problem(name, 0, 0, "", f"larger than {yaml_tree.MAX_BYTES} bytes")])
    tree, problems = yaml_tree.read(text, name)
    if not isinstance(tree.value, dict):
        said = "a configuration is a mapping with at least `providers` and `models`"
        raise ConfigRefused(problems or [Problem(name, 1, 1, "", said)])
    if host is not None or port is not None:
        _override(tree.value, host, port)

    from proxy.config.freeze import check_budgets, freeze  # noqa: PLC0415  # pydantic comes with it
    from proxy.config.validate import validate  # noqa: PLC0415

    base = FilePath(base_dir)
    found = Findings(tree, name)
    expansion = Expansion(environ, base, found.refuse)
    value = expansion.expand(tree.value)
    config = validate(value, found, expansion)
    Checks(value, found, expansion).run()
    schemas = read_schemas(value.get("schemas"), found, expansion, base)
    calibrations = read_calibrations(value.get("routes"), found, expansion, base)
    if config and not problems and not found.problems:
        snapshot = freeze(config, schemas, calibrations)
        check_budgets(snapshot, found)
        if not found.problems:
            return snapshot
    raise ConfigRefused(scrubbed([*problems, *found.problems], expansion.secrets))


def render_check(snapshot: Snapshot) -> str:
    """What `check` prints of a valid configuration: providers, models, routes, schemas, keys, warnings."""
    from proxy.config.show import render  # noqa: PLC0415  # only `check` needs it

    return render(snapshot)


def _override(value: dict[str, object], host: str | None, port: int | None) -> None:
    server = value.get("server")
    if server is None or isinstance(server, dict):
        given = {"host": host, "port": port}
        value["server"] = {**(server or {}), **{k: v for k, v in given.items() if v is not None}}
