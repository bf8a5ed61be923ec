"""What is known of a model: its windows, prices and abilities."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """Pico-USD per token, which is USD per million tokens times 1,000,000. Integers: money is never a float.

    Pico, because providers sell tokens for 37.5 nano-USD; what an attempt costs is rounded once, half up,
    to nano-USD. A kind without a price of its own is billed as input (cached input, cache write) as providers do.
    """

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    above: tuple[tuple[int, "Price"], ...] = ()
    """(tokens, price) steps: a prompt of more input tokens than that is billed altogether at that price; the
    highest such step counts (long-context prices of Google, OpenAI, xAI)."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as the configuration names it: `alias` here, `name` at its `provider`.

    `name` None means that the alias is a pattern and the asked name goes upstream. `price` None means
    unpriced, which is never free. `can` None means that nothing is known of its abilities.
    """

    alias: str
    provider: str
    name: str | None
    price: Price | None = None
    window_tokens: int | None = None
    max_output_tokens: int | None = None
    can: frozenset[str] | None = None
    breaker: bool = True
    tags: frozenset[str] = frozenset()
    """What routes and keys may require of it: a region, a contract, a class of data."""
    deployments: tuple["Deployment", ...] = ()
    """Where it may be called, the first being `provider` and `name`; empty where that is the only place."""
    deployment: str = ""
    """Which of several deployments this is, as `provider/name`; empty for the model as a whole."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One of several places where a model is served: its card there, and how many times the calls of another it bears."""

    card: ModelCard
    weight: float = 1.0
