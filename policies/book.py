"""What is known of a model by its name, so that nobody has to write prices into a configuration.

Names are looked up exactly. A name that is not in the book is unknown, however much it looks like one that
is: a guessed price is worse than none, because nobody looks for it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import urlsplit

from policies.book_data import BOOK
from policies.cards import Price
from policies.money import pico_per_token


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model of the book. `name` is the asked one without a vendor's prefix.

    `source` is the page its prices are published on, `checked` the day they were (ISO date), and `checked_by`
    says whether two sources agreed ("both") or which one was left. `assumed` is True where the host is not the
    provider's own and its list price is taken: a gateway in front of it, as far as we can know.
    """

    provider: str
    name: str
    price: Price
    batch: Price | None
    window_tokens: int | None
    max_output_tokens: int | None
    can: frozenset[str] | None
    source: str
    checked: str
    checked_by: str
    note: str | None = None
    assumed: bool = False


_HOSTS = MappingProxyType(
    {
        "api.openai.com": "openai",
        "api.anthropic.com": "anthropic",
        "generativelanguage.googleapis.com": "google",
        "api.mistral.ai": "mistral",
        "api.deepseek.com": "deepseek",
        "api.groq.com": "groq",
        "api.x.ai": "xai",
    }
)
_VENDORS = MappingProxyType(
    {
        "openai": "openai",
        "anthropic": "anthropic",
        "google": "google",
        "gemini": "google",
        "x-ai": "xai",
        "xai": "xai",
    }
)
"""Prefixes that gateways put before names, of vendors that alone serve their models (or set the price for others).

Open weights are not among them: everybody serves those, at any price.
"""
_VERSION_DOT = re.compile(r"(?<=\d)\.(?=\d)")


def card(provider_hint: str, model_name: str) -> KnownModel | None:
    """What the book knows of `model_name` at a host (or base URL, or dialect); None where it knows nothing.

    At a provider's own host only that provider's models are looked up. Anywhere else (OpenRouter, a gateway
    of one's own, a dialect's name) only models that their vendor alone offers, with or without its prefix
    (`openai/gpt-4o`), and what is found is `assumed`.
    """
    host = _host_of(provider_hint)
    if host in _HOSTS:
        return _MODELS[_HOSTS[host]].get(model_name.removeprefix("models/"))
    vendor, slash, rest = model_name.partition("/")
    if slash:
        if vendor not in _VENDORS:
            return None
        tables, name = [_MODELS[_VENDORS[vendor]]], rest
    elif host == "openrouter.ai":  # its names always have a prefix
        return None
    else:
        tables, name = [_MODELS[provider] for provider in dict.fromkeys(_VENDORS.values())], model_name
    if vendor == "anthropic":
        name = _VERSION_DOT.sub("-", name)  # OpenRouter writes claude-sonnet-4.5 for claude-sonnet-4-5
    found = [table[name] for table in tables if name in table]
    return replace(found[0], assumed=True) if len(found) == 1 else None


def known_models() -> Iterator[KnownModel]:
    """Every model of the book, by provider."""
    for table in _MODELS.values():
        yield from table.values()


def _host_of(hint: str) -> str:
    text = hint if "//" in hint else f"//{hint}"
    try:
        return (urlsplit(text).hostname or "").lower()
    except ValueError:  # a bracket that opens no IPv6 address: no host of anybody's
        return ""


def _read(text: str) -> Mapping[str, Mapping[str, KnownModel]]:
    """The book by provider and name. Raises ValueError at a line that is none, or at a name that comes twice."""
    models: dict[str, dict[str, KnownModel]] = {}
    provider = source = checked = ""
    for line in text.split("\n"):
        if line.startswith("@"):
            provider, source, checked = line[1:].split()
            models[provider] = {}
        elif line:
            for known in _read_line(line, provider, source, checked):
                if known.name in models[provider]:
                    raise ValueError(f"{known.name} comes twice in the book of {provider}")
                models[provider][known.name] = known
    return MappingProxyType({name: MappingProxyType(table) for name, table in models.items()})


def _read_line(line: str, provider: str, source: str, checked: str) -> Iterable[KnownModel]:
    names, sizes, can, price, batch, steps, by, note = (field.strip() for field in line.split("|"))
    window, max_output = (None if size == "-" else int(size) for size in sizes.split())
    above = tuple(
        (int(tokens), _price(four))
        for tokens, four in (step.split(":") for step in steps.split(";") if step != "-")
    )
    for name in names.split():
        yield KnownModel(
            provider=provider,
            name=name,
            price=replace(_price(price), above=above),
            batch=None if batch == "-" else _price(batch),
            window_tokens=window,
            max_output_tokens=max_output,
            can=None if can == "-" else frozenset(can.split()),
            source=source,
            checked=checked,
            checked_by=by,
            note=None if note == "-" else note,
        )


def _price(four: str) -> Price:
    """A price as the book writes it; models without output (embeddings) have none for it, so it is 0."""
    given, output, cached, write = (None if usd == "-" else pico_per_token(usd) for usd in four.split())
    if given is None:
        raise ValueError(f"no input price in {four!r}")
    return Price(given, output or 0, cached, write)


_MODELS = _read(BOOK)
