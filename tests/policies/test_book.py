"""The book's prices are what providers publish; a name it does not have is unknown."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.book import KnownModel, card, known_models
from policies.cards import Price

OPENAI = "api.openai.com"
BOOK = list(known_models())


def usd(input_: str, output: str, cached: str | None = None, write: str | None = None) -> Price:
    def pico(text: str | None) -> int | None:
        return None if text is None else round(float(text) * 1_000_000)

    return Price(pico(input_), pico(output), pico(cached), pico(write))


@pytest.mark.parametrize(
    ("host", "name", "price", "window", "output"),
    [
        (OPENAI, "gpt-4o", usd("2.5", "10", "1.25"), 128_000, 16_384),
        (OPENAI, "gpt-4o-2024-08-06", usd("2.5", "10", "1.25"), 128_000, 16_384),
        (OPENAI, "gpt-4o-2024-05-13", usd("5", "15"), 128_000, 4096),
        (OPENAI, "gpt-4o-mini", usd("0.15", "0.6", "0.075"), 128_000, 16_384),
        (OPENAI, "gpt-4.1-nano", usd("0.1", "0.4", "0.025"), 1_047_576, 32_768),
        (OPENAI, "text-embedding-3-small", usd("0.02", "0"), 8192, None),
        ("api.anthropic.com", "claude-3-5-sonnet-20241022", usd("3", "15", "0.3", "3.75"), 200_000, 8192),
        ("api.anthropic.com", "claude-sonnet-4-5", usd("3", "15", "0.3", "3.75"), 200_000, 64_000),
        (
            "generativelanguage.googleapis.com",
            "gemini-2.5-flash",
            usd("0.3", "2.5", "0.03"),
            1_048_576,
            65_536,
        ),
        ("api.groq.com", "openai/gpt-oss-20b", usd("0.075", "0.3", "0.0375"), 131_072, 65_536),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_prices_and_windows(host, name, price, window, output):
    known = card(host, name)
    assert (known.price, known.window_tokens, known.max_output_tokens) == (price, window, output)
    assert not known.assumed


def test_a_long_prompt_has_its_own_price():
    known = card("generativelanguage.googleapis.com", "gemini-2.5-pro")
    assert known.price == Price(
        1_250_000, 10_000_000, 125_000, above=((200_000, Price(2_500_000, 15_000_000, 250_000)),)
    )


def test_batches_are_cheaper():
    assert card(OPENAI, "gpt-4o-mini").batch == usd("0.075", "0.3", "0.075")


def test_abilities_are_known():
    assert {"tools", "json_schema", "vision"} <= card(OPENAI, "gpt-4o").can
    assert "json_schema" not in card("api.anthropic.com", "claude-3-5-sonnet-20241022").can


@pytest.mark.parametrize(
    "hint",
    [
        "api.openai.com",
        "https://api.openai.com/v1",
        "HTTPS://API.OPENAI.COM:443/v1",
        "api.openai.com:443",
        "//api.openai.com",
    ],
)
def test_a_host_is_found_in_any_writing(hint):
    assert card(hint, "gpt-4o").provider == "openai"
    assert not card(hint, "gpt-4o").assumed


@pytest.mark.parametrize(
    ("hint", "name", "found"),
    [
        ("openrouter.ai", "openai/gpt-4o", "gpt-4o"),
        ("https://openrouter.ai/api/v1", "anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("openrouter.ai", "google/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gateway.example.com", "gpt-4o-mini", "gpt-4o-mini"),
        ("gateway.example.com", "gemini/gemini-2.5-pro", "gemini-2.5-pro"),
        ("acme.openai.azure.com", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5"),
    ],
)
def test_elsewhere_the_vendors_list_price_is_assumed(hint, name, found):
    known = card(hint, name)
    assert (known.name, known.assumed) == (found, True)


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (OPENAI, "gpt-4o-2031-01-01"),
        (OPENAI, "gpt-4o-mini-"),
        (OPENAI, "gpt-4"[:4]),
        (OPENAI, "GPT-4o"),
        (OPENAI, " gpt-4o"),
        (OPENAI, ""),
        (OPENAI, "openai/gpt-4o"),
        (OPENAI, "claude-sonnet-4-5"),
        (OPENAI, "ft:gpt-4o:acme"),
        (OPENAI, "gpt-4o-audio-preview"),
        ("api.anthropic.com", "gpt-4o"),
        ("api.openai.com.evil.example", "llama-3.3-70b-versatile"),
        ("openrouter.ai", "gpt-4o"),
        ("openrouter.ai", "openai/gpt-4o:free"),
        ("openrouter.ai", "openai/gpt-oss-20b"),
        ("openrouter.ai", "deepseek/deepseek-v4-pro"),
        ("openrouter.ai", "meta-llama/llama-3.3-70b-instruct"),
        ("127.0.0.1:8000", "openai/gpt-oss-20b"),
        ("127.0.0.1:8000", "llama-3.1-8b-instant"),
        ("127.0.0.1:8000", "mistral-small-latest"),
        ("http://[broken", "no-such-model"),
    ],
)
def test_what_is_not_in_the_book_is_unknown(hint, name):
    assert card(hint, name) is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_hint_and_name_is_answered(hint, name):
    assert card(hint, name) is None or isinstance(card(hint, name), KnownModel)


@pytest.mark.parametrize("known", BOOK, ids=lambda known: f"{known.provider}-{known.name}")
def test_every_entry_is_plausible_and_says_where_it_comes_from(known):
    assert known.source.startswith("https://")
    assert date.fromisoformat(known.checked) > date(2026, 1, 1)
    assert known.checked_by in {"both", "genai-prices"}
    for price in (known.price, known.batch, *(step for _, step in known.price.above)):
        if price is None:
            continue
        assert 10_000 <= price.input <= 200_000_000
        assert price.output >= price.input or "embeddings" in known.can
        assert price.cached_input is None or 0 < price.cached_input <= price.input
        assert price.cache_write is None or price.cache_write >= price.input
    if known.batch is not None:
        assert known.batch.input <= known.price.input
    starts = [tokens for tokens, _ in known.price.above]
    assert starts == sorted(starts)
    assert known.window_tokens is None or 1000 < known.window_tokens <= 3_000_000
    assert known.max_output_tokens is None or known.max_output_tokens <= known.window_tokens
    assert re.fullmatch(r"[A-Za-z0-9./_:-]+", known.name)


def test_every_provider_of_the_issue_is_in_the_book():
    have = {known.provider for known in BOOK}
    assert have == {"openai", "anthropic", "google", "mistral", "deepseek", "groq", "xai"}
    assert len(BOOK) > 150
