"""What a call costs: usage times price, in integers.

Prices are pico-USD per token, costs are nano-USD. The one rounding (half up) happens once per attempt,
in `cost_nanousd`; sums of costs are exact from there on.
"""

from decimal import Decimal
from typing import Any, Final

from policies.cards import Price
from policies.chat import Usage

MAX_TOKENS: Final = 100_000_000
"""More than any window; a count above it is a broken or hostile report and is cut here."""

_PICO_PER_NANO: Final = 1_000


def pico_per_token(usd_per_million: Decimal | str | int) -> int:
    """The `Price` figure of a price as providers print it. Raises ValueError below a pico-USD per token."""
    pico = Decimal(usd_per_million) * 1_000_000
    if pico != pico.to_integral_value() or pico < 0:
        raise ValueError(
            f"{usd_per_million} USD per million tokens is not a whole number of pico-USD per token"
        )
    return int(pico)


def price_for(price: Price, input_tokens: int) -> Price:
    """The price that holds for a prompt of this size."""
    steps = [(above, step) for above, step in price.above if input_tokens > above]
    return max(steps, key=lambda pair: pair[0])[1] if steps else price


def cost_nanousd(usage: Usage, price: Price | None) -> int | None:
    """What the call cost, rounded half up to a nano-USD; None where the price is unknown, never 0 for that.

    Cached and cache-write tokens are part of `input_tokens` and are billed at their own prices.
    """
    if price is None:
        return None
    if price.above:
        price = price_for(price, usage.input_tokens)
    cached, written = usage.cached_tokens, usage.cache_write_tokens
    if not cached and not written:
        pico = usage.input_tokens * price.input + usage.output_tokens * price.output
        return (pico + _PICO_PER_NANO // 2) // _PICO_PER_NANO
    plain = max(0, usage.input_tokens - cached - written)
    pico = (
        plain * price.input
        + cached * (price.input if price.cached_input is None else price.cached_input)
        + written * (price.input if price.cache_write is None else price.cache_write)
        + usage.output_tokens * price.output
    )
    return (pico + _PICO_PER_NANO // 2) // _PICO_PER_NANO


def worst_cost_nanousd(input_tokens: int, max_output_tokens: int, price: Price | None) -> int | None:
    """The most a call with at most these tokens can cost; None where the price is unknown.

    Every prompt token is taken at the dearest kind (Anthropic's cache writes cost more than input), and
    at the dearest step the prompt may reach.
    """
    if price is None:
        return None
    worst = _worst_pico(input_tokens, max_output_tokens, price)
    for above, step in price.above:
        if input_tokens > above:
            worst = max(worst, _worst_pico(input_tokens, max_output_tokens, step))
    return -(-worst // _PICO_PER_NANO)


def _worst_pico(input_tokens: int, max_output_tokens: int, price: Price) -> int:
    dearer = max(price.cached_input or 0, price.cache_write or 0)
    per_input = max(price.input, dearer)
    return input_tokens * per_input + max_output_tokens * price.output


def usd_text(nanousd: int) -> str:
    """The amount in USD as plain decimal digits: `0.0375`, `-2`, `0`; no exponent, no trailing zeros."""
    if nanousd == 0:
        return "0"
    digits = str(abs(nanousd)).rjust(10, "0")
    whole, rest = digits[:-9], digits[-9:].rstrip("0")
    amount = f"{whole}.{rest}" if rest else whole
    return f"-{amount}" if nanousd < 0 else amount


def usage_of(raw: Any) -> Usage | None:
    """The tokens that an upstream's `usage` object reports; None where it reports none we can read.

    Reads OpenAI chat (prompt_tokens), OpenAI Responses and Anthropic Messages (input_tokens), DeepSeek's
    prompt_cache_hit_tokens, Moonshot's cached_tokens. Anthropic's input_tokens leave the cached parts
    out, so they are added. Where total_tokens is more than prompt and completion, the rest is reasoning
    that was left out of completion_tokens and is billed as output (xAI, Gemini's OpenAI endpoint).
    Counts are cut to 0..MAX_TOKENS, and cached parts to the prompt. Never raises.
    """
    if not isinstance(raw, dict):
        return None
    if "prompt_tokens" in raw:
        return _openai_usage(raw)
    if "input_tokens" in raw:
        return _input_usage(raw)
    return None


def _openai_usage(raw: dict[Any, Any]) -> Usage | None:
    prompt = _count(raw.get("prompt_tokens"))
    completion = _count(raw.get("completion_tokens", 0))
    if prompt is None or completion is None:
        return None
    inputs, outputs = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = (
        _part(inputs, "cached_tokens")
        or _part(raw, "prompt_cache_hit_tokens")
        or _part(raw, "cache_read_input_tokens")
        or _part(raw, "cached_tokens")
    )
    written = _part(inputs, "cache_write_tokens") or _part(raw, "cache_creation_input_tokens")
    reasoning = _part(outputs, "reasoning_tokens")
    hidden = _part(raw, "total_tokens") - prompt - completion
    if hidden > 0:
        completion = min(completion + hidden, MAX_TOKENS)
        reasoning = reasoning or hidden
    return _usage(prompt, completion, cached, written, reasoning)


def _input_usage(raw: dict[Any, Any]) -> Usage | None:
    prompt = _count(raw.get("input_tokens"))
    output = _count(raw.get("output_tokens", 0))
    if prompt is None or output is None:
        return None
    inputs, outputs = raw.get("input_tokens_details"), raw.get("output_tokens_details")
    reasoning = _part(outputs, "reasoning_tokens")
    if isinstance(inputs, dict):  # OpenAI Responses: the cached part is inside input_tokens
        cached, written = _part(inputs, "cached_tokens"), _part(inputs, "cache_write_tokens")
        return _usage(prompt, output, cached, written, reasoning)
    # Anthropic docs, "Prompt caching", read 2026-11: input_tokens are those after the last cache breakpoint
    cached, written = _part(raw, "cache_read_input_tokens"), _part(raw, "cache_creation_input_tokens")
    return _usage(min(prompt + cached + written, MAX_TOKENS), output, cached, written, reasoning)


def _usage(prompt: int, output: int, cached: int, written: int, reasoning: int) -> Usage:
    cached = min(cached, prompt)
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=min(written, prompt - cached),
        reasoning_tokens=min(reasoning, output),
    )


def _part(raw: Any, name: str) -> int:
    """A count that may be missing; 0 where it is, or where it is no count."""
    return (_count(raw.get(name)) or 0) if isinstance(raw, dict) else 0


def _count(value: Any) -> int | None:
    """`value` as a token count; None where it is no whole number (a bool is none, 12.0 is one)."""
    if isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return min(max(value, 0), MAX_TOKENS)
