"""Costs are exact integers; a report of tokens is read or refused, never believed blindly."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.cards import Price
from policies.chat import Usage
from policies.money import (
    MAX_TOKENS,
    cost_nanousd,
    pico_per_token,
    usage_of,
    usd_text,
    worst_cost_nanousd,
)

MINI = Price(input=150_000, output=600_000, cached_input=75_000)
SONNET = Price(input=3_000_000, output=15_000_000, cached_input=300_000, cache_write=3_750_000)
STEPPED = Price(1_250_000, 10_000_000, 125_000, above=((200_000, Price(2_500_000, 15_000_000, 250_000)),))

tokens = st.integers(0, 5_000_000)
pico = st.integers(0, 200_000_000)
prices = st.builds(Price, pico, pico, st.none() | pico, st.none() | pico)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    prompt = draw(tokens)
    cached = draw(st.integers(0, prompt))
    return Usage(prompt, draw(tokens), cached, draw(st.integers(0, prompt - cached)))


@pytest.mark.parametrize(
    ("usage", "price", "nanousd"),
    [
        pytest.param(Usage(1000, 500), MINI, 450_000, id="input-and-output"),
        pytest.param(Usage(1000, 0, cached_tokens=1000), MINI, 75_000, id="all-cached"),
        pytest.param(Usage(1000, 0, cached_tokens=400), MINI, 120_000, id="cached-is-part-of-input"),
        pytest.param(Usage(1000, 0, 0, 1000), SONNET, 3_750_000, id="cache-write-is-dearer"),
        pytest.param(
            Usage(1000, 10, 500, 300), SONNET, 600_000 + 150_000 + 1_125_000 + 150_000, id="all-kinds"
        ),
        pytest.param(Usage(1000, 0, 0, 1000), MINI, 150_000, id="cache-write-without-price-is-input"),
        pytest.param(Usage(10, 0, 10), Price(7_000, 0), 70, id="cached-without-price-is-input"),
        pytest.param(Usage(1, 0), Price(37_500, 0), 38, id="half-a-nano-goes-up"),
        pytest.param(Usage(1, 0), Price(37_499, 0), 37, id="less-than-half-goes-down"),
        pytest.param(Usage(0, 0), MINI, 0, id="no-tokens-cost-nothing"),
        pytest.param(Usage(5, 5), Price(0, 0), 0, id="a-price-of-zero-is-free"),
        pytest.param(Usage(200_000, 1), STEPPED, 250_010_000, id="at-the-step-the-base-price"),
        pytest.param(Usage(200_001, 1), STEPPED, 500_017_500, id="above-the-step-all-tokens-are-dearer"),
    ],
)
def test_cost_is_usage_times_price(usage, price, nanousd):
    assert cost_nanousd(usage, price) == nanousd


def test_an_unknown_price_is_unpriced_and_never_zero():
    assert cost_nanousd(Usage(0, 0), None) is None
    assert worst_cost_nanousd(0, 0, None) is None


@given(usages(), prices)
def test_cost_is_the_exact_amount_rounded_once_half_up(usage, price):
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    million = Decimal(1_000_000)
    usd = (
        plain * Decimal(price.input) / million
        + usage.cached_tokens * Decimal(cached) / million
        + usage.cache_write_tokens * Decimal(written) / million
        + usage.output_tokens * Decimal(price.output) / million
    ) / million
    assert cost_nanousd(usage, price) == int((usd * 10**9).quantize(Decimal(1), ROUND_HALF_UP))


@given(usages(), prices, prices)
def test_no_call_within_its_tokens_costs_more_than_its_worst_case(usage, price, step):
    stepped = Price(price.input, price.output, price.cached_input, price.cache_write, above=((1000, step),))
    for p in (price, stepped):
        assert cost_nanousd(usage, p) <= worst_cost_nanousd(usage.input_tokens, usage.output_tokens, p)


@pytest.mark.parametrize(
    ("usd", "expected"),
    [("2.50", 2_500_000), ("0.0375", 37_500), ("0", 0), (15, 15_000_000), ("0.000001", 1)],
)
def test_printed_prices_become_whole_pico_usd(usd, expected):
    assert pico_per_token(usd) == expected


@pytest.mark.parametrize("usd", ["0.0000001", "-1"])
def test_a_price_that_is_no_whole_pico_usd_is_refused(usd):
    with pytest.raises(ValueError, match="pico-USD"):
        pico_per_token(usd)


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (450_000, "0.00045"),
        (1_000_000_000, "1"),
        (12_500_000_000, "12.5"),
        (-2_000_000_000, "-2"),
        (-1, "-0.000000001"),
        (100_000_000_000, "100"),
    ],
)
def test_money_is_written_as_plain_digits(nanousd, text):
    assert usd_text(nanousd) == text


@given(st.integers(-(10**30), 10**30))
def test_written_money_reads_back_exactly(nanousd):
    text = usd_text(nanousd)
    assert Decimal(text) * 10**9 == nanousd or abs(nanousd) > 10**27  # Decimal's own 28 digits end there
    assert "e" not in text.lower()
    assert not (text.endswith("0") and "." in text)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}, Usage(9, 3), id="openai"
        ),
        pytest.param(
            {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 128, "accepted_prediction_tokens": 0},
            },
            Usage(2006, 300, cached_tokens=1920, reasoning_tokens=128),
            id="openai-details",
        ),
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None},
            Usage(9, 3),
            id="details-null",
        ),
        pytest.param({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0), id="embeddings"),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 5,
                "total_tokens": 105,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
            },
            Usage(100, 5, cached_tokens=64),
            id="deepseek",
        ),
        pytest.param(
            {"prompt_tokens": 50, "completion_tokens": 5, "cached_tokens": 20},
            Usage(50, 5, cached_tokens=20),
            id="moonshot",
        ),
        pytest.param(
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(32, 103, reasoning_tokens=94),
            id="xai-reasoning-is-billed-output",
        ),
        pytest.param(
            {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
            Usage(20, 603, reasoning_tokens=405),
            id="gemini-thoughts-are-billed-output",
        ),
        pytest.param(
            {
                "input_tokens": 36,
                "input_tokens_details": {"cached_tokens": 30},
                "output_tokens": 87,
                "output_tokens_details": {"reasoning_tokens": 64},
                "total_tokens": 123,
            },
            Usage(36, 87, cached_tokens=30, reasoning_tokens=64),
            id="responses-cached-is-inside",
        ),
        pytest.param(
            {
                "input_tokens": 21,
                "cache_creation_input_tokens": 188086,
                "cache_read_input_tokens": 100,
                "output_tokens": 393,
            },
            Usage(188207, 393, cached_tokens=100, cache_write_tokens=188086),
            id="anthropic-cached-is-outside",
        ),
        pytest.param(
            {
                "prompt_tokens": 130,
                "completion_tokens": 1,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 20,
            },
            Usage(130, 1, cached_tokens=100, cache_write_tokens=20),
            id="anthropic-behind-an-openai-gateway",
        ),
        pytest.param({"prompt_tokens": 12.0, "completion_tokens": 3}, Usage(12, 3), id="whole-floats-count"),
        pytest.param({"prompt_tokens": -5, "completion_tokens": 3}, Usage(0, 3), id="negative-is-none"),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 99}},
            Usage(10, 3, cached_tokens=10),
            id="cached-is-cut-to-the-prompt",
        ),
        pytest.param(
            {"prompt_tokens": 10**30, "completion_tokens": 10**30},
            Usage(MAX_TOKENS, MAX_TOKENS),
            id="absurd-counts-are-cut",
        ),
        pytest.param(
            {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": "1"}},
            Usage(1, 1),
            id="a-broken-detail-is-left-out",
        ),
    ],
)
def test_usage_objects_of_providers_are_read(raw, usage):
    assert usage_of(raw) == usage


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "12",
        7,
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": "12"},
        {"prompt_tokens": True},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": float("nan")},
        {"prompt_tokens": float("inf")},
        {"prompt_tokens": 1, "completion_tokens": []},
        {"input_tokens": {}},
        {"output_tokens": 5},
    ],
    ids=repr,
)
def test_what_is_no_report_of_tokens_reads_as_none(raw):
    assert usage_of(raw) is None


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "input_tokens",
        "output_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "prompt_cache_hit_tokens",
        "cached_tokens",
    ]
)


@given(st.dictionaries(names, json_like) | json_like)
def test_any_json_reads_as_sane_usage_or_none(raw):
    usage = usage_of(raw)
    if usage is not None:
        assert 0 <= usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens <= MAX_TOKENS
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens <= MAX_TOKENS
        assert cost_nanousd(usage, SONNET) >= 0
