"""`docs/configuration.md`, made from the models: `python -m proxy.config.docs > docs/configuration.md`."""

import inspect
import json
import sys
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config import ConfigRefused, loads
from proxy.config.models import ConfigModel
from proxy.config.words import Shape, shape_of, words

_BROKEN = """\
providers:
  openai: {base_url: https://api.openai.com/v1, api_key: $OPENAI_API_KEY}
models:
  mini: {provider: opnai, name: gpt-4o-mini}
routes:
  invoice: {laddr: [mini], stream: hodl}
"""

_HEAD = """\
<!-- Made by `python -m proxy.config.docs > docs/configuration.md`; a test fails when it is stale. -->
# Configuration

One YAML file. `python -m proxy serve --config tailrace.yaml` serves it, `python -m proxy check --config tailrace.yaml`
validates everything and prints what a request will meet. Commented files to start from are in [examples/](../examples).

```yaml
{minimal}```

That is all it takes: a provider and a model. A client names a model (`"model": "mini"`, or `provider/name`) or a route.
What names neither is served by the route `default`; where none is configured, a single model takes its place.

## How the file is read

- **Environment.** `$NAME` or `${{NAME}}` in any text reads the environment; `$$` is a dollar sign. A variable that is not
  set is an error that names it. Inline JSON Schemas are left as they are.
- **Secrets** (`api_key`, `key`, values of `headers`) may also be `file:PATH`, seen from the file's folder: what the file
  holds, without the line end. No message, log line or output of `check` ever holds one.
- **YAML.** `on`, `off`, `yes` and `no` are texts, truth values are `true` and `false`. A name stands once in a mapping.
  Anchors, aliases and `<<` work; tags do not. At most {max_kib} KiB.
- **Mistakes.** Unknown fields are errors. All that is wrong is told at once, with line and column:

```yaml
{broken}```

```
{messages}
```

- **Reload.** SIGHUP or `POST /admin/reload` reads the file again. A file with a mistake changes nothing. Running requests
  end with the configuration they began with.
- **Reach.** Without `keys` the proxy is open, says so at start, and refuses to listen on anything but loopback.

A field without a default is required.
"""

_MINIMAL = """\
providers:
  openai: {base_url: https://api.openai.com/v1, api_key: $OPENAI_API_KEY}
models:
  mini: {provider: openai, name: gpt-4o-mini}
"""

_PLACES = {"providers": "providers.NAME", "models": "models.ALIAS", "routes": "routes.NAME", "keys": "keys[]"}


def reference() -> str:
    """The whole page."""
    from proxy.config.tree import MAX_BYTES  # noqa: PLC0415  # a number for the text

    parts = [
        _HEAD.format(minimal=_MINIMAL, broken=_BROKEN, messages=_messages(), max_kib=MAX_BYTES // 1024),
        *_section("The file", ConfigModel, ""),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _messages() -> str:
    """What is really said of the broken example."""
    try:
        loads(_BROKEN, name="tailrace.yaml", environ={}, base_dir=".")
    except ConfigRefused as refused:
        return str(refused)
    raise AssertionError("the broken example is not broken")


def _section(title: str, model: type[BaseModel], place: str) -> list[str]:
    """The table of one model, then the sections of the models in it."""
    shape = Shape(model)
    rows = [_row(place, name, info) for name, info in shape.fields.items()]
    lines = [
        f"## {title}",
        "",
        inspect.cleandoc(model.__doc__ or ""),
        "",
        "| field | value | default | meaning |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    for name, info in shape.fields.items():
        inner = shape_of(info.annotation)
        target = inner if inner.fields else inner.item
        if target and target.fields:
            below = _inside(place, name)
            lines += _section(f"`{below}`", target.type, below)
    return lines


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else _PLACES.get(name, name)


def _row(place: str, name: str, info: FieldInfo) -> str:
    shape = shape_of(info.annotation, tuple(info.metadata))
    target = shape if shape.fields else shape.item
    if target and target.fields:
        below = _inside(place, name)
        anchor = "".join(c for c in below.lower() if c.isalnum() or c in "-_")
        kind = {list: "a list of ", dict: "a mapping to "}.get(get_origin(shape.type), "")
        value = f"{kind}[`{below}`](#{anchor})"
    else:
        value = words(shape)
    cells = (f"`{name}`", value, _default(info), info.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value: Any = info.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value in ([], {}):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) else json.dumps(value).replace('"', "")
    return f"`{text}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
