"""The built-in demo: what `serve` runs without a configuration file, and what it prints so that one can try it.

A provider's key in the environment makes it that provider's demo. Without one a real small model runs on this
machine, and where that cannot be, a script plays its part and says so in every reply.
"""

import contextlib
import importlib.util
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal

from proxy import local_model, scripted_model

Kind = Literal["provider", "local", "scripted"]

CHOICE = "TAILRACE_DEMO"
"""Environment variable: `local`, `scripted` or a provider's name overrides the choice by keys."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A provider with an OpenAI-compatible API, and two models that it offered and the price book knew in 2026-11."""

    name: str
    key: str
    base_url: str
    small: str
    large: str


CLOUDS = (
    Cloud("openai", "OPENAI_API_KEY", "https://api.openai.com/v1", "gpt-4o-mini", "gpt-4o"),
    Cloud(
        "anthropic",
        "ANTHROPIC_API_KEY",
        "https://api.anthropic.com/v1",
        "claude-haiku-5-5",
        "claude-sonnet-5-5",
    ),
    Cloud(
        "gemini",
        "GEMINI_API_KEY",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-flash-lite-latest",
        "gemini-flash-latest",
    ),
    Cloud(
        "openrouter",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/api/v1",
        "openai/gpt-4o-mini",
        "openai/gpt-4o",
    ),
    Cloud(
        "groq",
        "GROQ_API_KEY",
        "https://api.groq.com/openai/v1",
        "openai/gpt-oss-20b",
        "openai/gpt-oss-120b",
    ),
    Cloud(
        "mistral",
        "MISTRAL_API_KEY",
        "https://api.mistral.ai/v1",
        "mistral-small-latest",
        "mistral-medium-latest",
    ),
    Cloud("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1", "deepseek-flash", "deepseek-v4-pro"),
)


@dataclass(frozen=True, slots=True)
class Demo:
    """A configuration (`text`, YAML), what kind of upstream it has, which model answers, what to tell the user."""

    text: str
    kind: Kind
    model: str
    notes: tuple[str, ...] = ()


class UnknownDemoError(Exception):
    """TAILRACE_DEMO names no demo, or a provider whose key is not set. The message says what it may be."""


def choose(environ: Mapping[str, str]) -> Kind | Cloud:
    """The provider whose key is set (the first of `CLOUDS`), else the local model; `TAILRACE_DEMO` overrides."""
    asked = environ.get(CHOICE, "")
    if asked == "local":
        return "local"
    if asked == "scripted":
        return "scripted"
    for cloud in CLOUDS:
        if environ.get(cloud.key) and asked in ("", cloud.name):
            return cloud
        if asked == cloud.name:
            raise UnknownDemoError(f"{CHOICE} is {asked!r}, but {cloud.key} is not set")
    if asked:
        names = ", ".join(cloud.name for cloud in CLOUDS)
        raise UnknownDemoError(f"{CHOICE} is {asked!r}; expected local, scripted, {names}")
    return "local"


def cloud_demo(cloud: Cloud, environ: Mapping[str, str]) -> Demo:
    """The demo at a provider. The key stays in the environment: the text only names it."""
    # As the official client does: a key meant for a gateway of the user's must not go elsewhere.
    gateway = cloud.name == "openai" and environ.get("OPENAI_BASE_URL")
    base_url = "$OPENAI_BASE_URL" if gateway else cloud.base_url
    text = f"""\
# Tailrace's demo: {cloud.name}, because {cloud.key} is set.
store: sqlite:///tailrace.db
providers:
  {cloud.name}: {{base_url: "{base_url}", api_key: ${cloud.key}, trust_env: true}}
models:
  small: {{provider: {cloud.name}, name: "{cloud.small}"}}
  large: {{provider: {cloud.name}, name: "{cloud.large}"}}
{_ROUTES.format(ladder="[small, large]")}"""
    note = f"{cloud.key} is set: calls go to {cloud.name} and cost money; {CHOICE}=local uses a local model"
    return Demo(text, "provider", f"{cloud.small} of {cloud.name}", (note,))


def local_demo(base_url: str) -> Demo:
    """The demo with the local model that answers at `base_url`."""
    name = local_model.NAME.lower()
    text = f"""\
# Tailrace's demo: a real language model of 135 million parameters on this machine.
store: sqlite:///tailrace.db
providers:
  local: {{base_url: "{base_url}", timeouts: {{first_byte_s: 120, idle_s: 60, total_s: 600}}}}
# One model under two names: asked as the client wrote, then held to the schema while it writes. `small` says nothing
# of what it can: were the schema put into its prompt, a model of this size would recite it.
models:
  small:  {{provider: local, name: {name}, window_tokens: {local_model.WINDOW_TOKENS}, price: {{input: 0, output: 0}}}}
  strict: {{provider: local, name: {name}, window_tokens: {local_model.WINDOW_TOKENS}, price: {{input: 0, output: 0}}, can: [json_schema]}}
{_ROUTES.format(ladder="[small, strict]")}"""
    return Demo(text, "local", f"{local_model.NAME}, running on this machine")


def scripted_demo(base_url: str, why: str = "") -> Demo:
    """The demo with the scripted upstream at `base_url`; `why` says why no model answers."""
    text = f"""\
# Tailrace's demo: a script plays the model's part.
store: sqlite:///tailrace.db
providers:
  scripted: {{base_url: "{base_url}"}}
models:
  small: {{provider: scripted, name: {scripted_model.NAME}, window_tokens: 4096, price: {{input: 0, output: 0}}}}
{_ROUTES.format(ladder="[small]")}"""
    notes = (f"{why}; a scripted upstream answers instead, and says so in every reply",) if why else ()
    return Demo(text, "scripted", "a script, not a language model", notes)


_ROUTES = """\
schemas:
  contact:
    type: object
    properties:
      name: {{type: string, minLength: 1}}
      city: {{type: string, minLength: 1}}
      age: {{type: integer, minimum: 0}}
    required: [name, city, age]
    additionalProperties: false
routes:
  default: {{ladder: [small]}}
  contact:                  # the reply is valid by the schema, or an honest 422
    ladder: {ladder}
    schema: contact
    repair: {{reask: 1, escalate: true, give_up: error}}
    limits: {{attempts: 4, deadline_s: 120}}
"""


@contextlib.asynccontextmanager
async def running(environ: Mapping[str, str], say: local_model.Say) -> AsyncIterator[Demo]:
    """The demo for this environment, its upstream running until the end of the block.

    `say` gets progress and what went another way than expected, a line each. Raises UnknownDemoError.
    """
    choice = choose(environ)
    why = ""
    if isinstance(choice, Cloud):
        yield _told(cloud_demo(choice, environ), say)
        return
    if choice == "local":
        local = local_model.LocalModel()
        try:
            base_url = await local.start(say)
        except local_model.ModelUnavailableError as error:
            why = str(error)
        else:
            try:
                yield _told(local_demo(base_url), say)
            finally:
                await local.stop()
            return
    scripted = scripted_model.ScriptedModel()
    try:
        yield _told(scripted_demo(await scripted.start(), why), say)
    finally:
        await scripted.stop()


def _told(demo: Demo, say: local_model.Say) -> Demo:
    for note in demo.notes:
        say(note)
    return demo


def curl_line(url: str) -> str:
    """A question, to be pasted into a shell. `url` is where the proxy listens, without a path."""
    body = '{"model": "default", "messages": [{"role": "user", "content": "Name three rivers in Europe."}]}'
    return f"curl -s {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"


def schema_curl_line(url: str) -> str:
    """A question to the route with a schema, shown with the headers that tell what happened."""
    question = (
        "Reply with JSON only, with the keys name, city and age: Ada Lovelace, 36 years old, lives in London."
    )
    body = f'{{"model": "contact", "messages": [{{"role": "user", "content": "{question}"}}]}}'
    return f"curl -si {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"


def python_snippet(url: str) -> str:
    """The same question, streamed, with the official client."""
    return f"""\
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="none")
question = {{"role": "user", "content": "Name three rivers in Europe."}}
for chunk in client.chat.completions.create(model="default", messages=[question], stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""


def greeting(url: str, kind: Kind, model: str) -> str:
    """What `serve` prints when the demo is ready: what answers, and lines that work as pasted."""
    warning = f"\nEvery reply is labelled {scripted_model.LABEL!r}." if kind == "scripted" else ""
    client = "this environment has it" if importlib.util.find_spec("openai") else "pip install openai"
    return f"""
Tailrace listens at {url}/v1 (demo: {model}).{warning}

Ask it:

{curl_line(url)}

The same in Python with the openai client ({client}):

{python_snippet(url)}
A route with a schema: valid JSON, or an honest 422 with the problems:

{schema_curl_line(url)}

Your own configuration: examples/, docs/configuration.md. Ctrl-C ends it.
"""
