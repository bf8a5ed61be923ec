"""A trim as a person reads it: what stays, what goes, why, and what it saves."""

from policies.cards import Price
from policies.trimming import Trimmed
from policies.units import call_text, text_of

_WIDTH = 60
_LISTED = 50
"""Dropped pieces that are listed one by one; the rest is summed up."""


def render_trim(trimmed: Trimmed, price: Price | None = None, saved_tokens: float | None = None) -> str:
    """The decision as lines of text. It quotes the begin of messages: for the operator's own eyes, never for a log.

    `price` turns tokens into money, `saved_tokens` is the estimate over the turns to come (see `policies.economy`).
    """
    gone = trimmed.tokens_in - trimmed.tokens_out
    share = 100 * gone / trimmed.tokens_in if trimmed.tokens_in else 0.0
    lines = [
        trimmed.note,
        f"in {trimmed.tokens_in}, out {trimmed.tokens_out} tokens: {gone} less ({share:.0f} %)"
        + ("" if trimmed.fits else "; DOES NOT FIT"),
    ]
    if trimmed.tool_tokens:
        lines.append(
            f"{trimmed.tool_tokens} of these are the tool by which the model may look up what is left out"
        )
    if price is not None:
        lines.append(
            f"at full input price ${_usd(trimmed.tokens_in, price)} -> ${_usd(trimmed.tokens_out, price)}"
        )
        if saved_tokens is not None:
            sign = "-" if saved_tokens < 0 else ""
            lines.append(
                f"expected over the coming turns: {sign}${_usd(abs(round(saved_tokens)), price)} saved"
            )
    lines.append("")
    lines.append("stays:")
    lines += [
        f"  {message.get('role', '?')!s:10} {_begin(text_of(message) or call_text(message))}"
        for message in trimmed.messages
    ]
    if not trimmed.dropped:
        lines.append("goes: nothing")
        return "\n".join(lines)
    lines.append("goes:")
    for piece in trimmed.dropped[:_LISTED]:
        span = "" if piece.span is None else f" characters {piece.span[0]}-{piece.span[1]}"
        lines.append(
            f"  message {piece.index}{span}: {piece.tokens} tokens, {piece.reason}"
            f" (score {piece.score:g}), {piece.hash[:12]}"
        )
    if len(trimmed.dropped) > _LISTED:
        rest = trimmed.dropped[_LISTED:]
        lines.append(f"  and {len(rest)} more pieces of {sum(piece.tokens for piece in rest)} tokens")
    return "\n".join(lines)


def _usd(tokens: int, price: Price) -> str:
    return f"{tokens * price.input / 1e9:.6f}"


def _begin(text: str) -> str:
    line = " ".join(text[: 2 * _WIDTH].split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
