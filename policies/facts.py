"""What a routing decision may know, and how the request-shaped part of it is read from the request.

`proxy/facts` gathers these; `policies/routing.needs` says which of them a route wants. Randomness is a
fact too: it comes in as numbers, so that a decision can be replayed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from policies.cards import ModelCard
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model as it stands now.

    `allowed` is the key's policy; `retry_after_s` None means healthy, else its breaker is open for so
    long. `rests_s`: it asked to be left alone for so long. `cached_tokens` of this prompt lie in its provider's cache.
    `token_factor` is how many tokens its tokenizer makes of what we count as one.
    """

    card: ModelCard
    allowed: bool = True
    retry_after_s: float | None = None
    cached_tokens: int = 0
    rests_s: float = 0.0
    token_factor: float = 1.0

    def tokens(self, counted: int) -> int:
        """So many of our tokens in the model's own."""
        return counted if self.token_factor == 1.0 else math.ceil(counted * self.token_factor)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the log says of one model at one step, pooled as `policies/posteriors` does.

    `success` is the probability that the exchange ends at this rung with a valid answer, `calls` how
    many calls that takes (1 plus re-asks), `output_tokens` what one of them writes. `n` is the weight of
    the log behind it, in exchanges.
    """

    success: float
    calls: float = 1.0
    output_tokens: float = 256.0
    n: float = 0.0


Watched = Literal["valid", "comparison", "feedback"]
"""How an answer is known to be good: it is valid, it says what the strong model's says, its client said so."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the reviewed calibration allows for one step.

    `by` "start": begin at `start`. "score": begin at `start` where the content scorer stays below `threshold`,
    else at the floor's model; where it abstains, at `start` for the declared steps in `abstaining`.
    "suspicion": begin at `start`, climb when the answer's suspicion reaches `threshold`.
    `certified` False is the answer "no saving certified". `n` outcomes stand behind it.
    `expected` are the shares of good answers of `start`, at least, by how they are known.
    """

    start: str
    by: Literal["start", "score", "suspicion"] = "start"
    threshold: float = 1.0
    certified: bool = False
    n: int = 0
    abstaining: frozenset[str] = frozenset()
    expected: Mapping[Watched, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draws:
    """Two numbers drawn from [0, 1). The defaults draw nothing."""

    holdout: float = 1.0
    shadow: float = 1.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that `choose` looks at. A field that the route does not need may stay at its default.

    `prompt_tokens` are those that would be sent, tool definitions included; `min_prompt_tokens` is what is
    left when trimming has taken all it may (None: nothing is trimmed). `max_output_tokens` None: the client
    set no bound. `abilities` see `demands`; `require` are tags that the key or the run asks for on top of the
    route's. `current` is the model that this conversation talked to last, `turns_left` how many turns it is
    thought to have. `score` is the content scorer's, None where it abstains. `drifted` names the steps whose
    outcomes no longer look like their calibration. Plans and evidence are by step; the step "*" is the
    route as a whole.
    """

    models: dict[str, Candidate]
    prompt_tokens: int = 0
    min_prompt_tokens: int | None = None
    max_output_tokens: int | None = None
    abilities: frozenset[str] = frozenset()
    require: frozenset[str] = frozenset()
    max_cost_nanousd: int | None = None
    pinned: str | None = None
    step: str | None = None
    state: str | None = None
    system: str = ""
    tools: tuple[str, ...] = ()
    schema: str | None = None
    fingerprint: str | None = None
    plans: Mapping[str, Plan] = field(default_factory=dict)
    evidence: Mapping[str, Mapping[str, Evidence]] = field(default_factory=dict)
    drifted: frozenset[str] = frozenset()
    score: float | None = None
    current: str | None = None
    turns_left: float = 1.0
    draws: Draws = field(default_factory=Draws)


def demands(body: dict[str, Any]) -> frozenset[str]:
    """The abilities that an OpenAI chat request asks of its model: tools, json_schema, vision, audio.

    Reads hostile bodies: what has the wrong type asks for nothing.
    """
    found = set()
    if body.get("tools") or body.get("functions"):
        found.add("tools")
    if object_of(body.get("response_format")).get("type") == "json_schema":
        found.add("json_schema")
    if body.get("audio") or "audio" in list_of(body.get("modalities")):
        found.add("audio")
    for message in list_of(body.get("messages")):
        for part in list_of(object_of(message).get("content")):
            kind = object_of(part).get("type")
            if kind == "image_url":
                found.add("vision")
            elif kind == "input_audio":
                found.add("audio")
    return frozenset(found)


def system_text(body: dict[str, Any]) -> str:
    """The leading system and developer messages as one text."""
    texts = []
    for message in list_of(body.get("messages")):
        message = object_of(message)  # noqa: PLW2901 -- the same message, with its type made sure
        if message.get("role") not in ("system", "developer"):
            break
        texts.append(text_of(message.get("content")))
    return "\n".join(texts)


def tool_names(body: dict[str, Any]) -> tuple[str, ...]:
    """The names of the request's tools, in order."""
    functions = (object_of(object_of(tool).get("function")) for tool in list_of(body.get("tools")))
    return tuple(name for f in functions if isinstance(name := f.get("name"), str))


def schema_name(body: dict[str, Any]) -> str | None:
    """The name that the client gave its response format's schema."""
    name = object_of(object_of(body.get("response_format")).get("json_schema")).get("name")
    return name if isinstance(name, str) else None


def fingerprint(body: dict[str, Any]) -> str:
    """A hash of what stays the same in each call of one step: system prompt, tools, response format."""
    parts = [system_text(body), body.get("tools"), body.get("response_format")]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def text_of(content: Any) -> str:
    """The text of a message's content, its parts joined; what is not text is left out."""
    if isinstance(content, str):
        return content
    texts = (object_of(part).get("text") for part in list_of(content))
    return " ".join(text for text in texts if isinstance(text, str))


def object_of(value: Any) -> dict[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """`value` where it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []
