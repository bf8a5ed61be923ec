r"""Bring the price book up to date: print what would change, write it with --write, then read the diff.

    python -m venv /tmp/book && /tmp/book/bin/pip install genai-prices==0.2.3
    pip download --no-deps litellm==1.109.1 -d /tmp/book && \
        unzip -p /tmp/book/litellm-*.whl 'litellm/model_prices*.json' > /tmp/book/limits.json
    /tmp/book/bin/python tools/refresh_book.py --limits /tmp/book/limits.json [--write]

Two sources are read, both MIT: `genai-prices` for prices, LiteLLM's list for prices, windows and abilities (only
its JSON is read, the package is never run). A name enters the book when both agree on its price to the digit;
what they disagree on is printed and left out, so that it is unpriced rather than wrong. Models that only one
source still knows, most of them retired, enter by the reviewed list ONE_SOURCE below. Only tokens of text
have a price here: models that are billed by image, by audio token or by the hour stay out.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parents[1] / "policies" / "book_data.py"

PROVIDERS = {
    # ours: (genai-prices, LiteLLM, prefix of its names)
    "openai": ("openai", "openai", ""),
    "anthropic": ("anthropic", "anthropic", ""),
    "google": ("google", "gemini", "gemini/"),
    "mistral": ("mistral", "mistral", "mistral/"),
    "deepseek": ("deepseek", "deepseek", "deepseek/"),
    "groq": ("groq", "groq", "groq/"),
    "xai": ("x-ai", "xai", "xai/"),
}
MODES = {"chat": "", "responses": "", "completion": "", "embedding": "embeddings"}
ABILITIES = {
    "supports_function_calling": "tools",
    "supports_response_schema": "json_schema",
    "supports_vision": "vision",
    "supports_audio_input": "audio",
    "supports_pdf_input": "pdf",
    "supports_reasoning": "reasoning",
}
NOT_TEXT = (
    "-tts",
    "audio",
    "realtime",
    "-image",
    "live",
    "transcribe",
    "search",
    "ocr",
    "voxtral",
    "robotics",
    "ft:",
)
NOT_SERVED = ("deepseek-r1",)  # a name of the weights, which the provider never served under it
EXTRAS = {"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok", "input_audio_mtok"}
EXTRAS |= {"cache_audio_read_mtok", "input_image_mtok", "cache_image_read_mtok", "input_video_mtok"}
TOKENS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")

CLAUDE = "tools vision pdf"
GEMINI = "tools json_schema vision audio pdf"
ONE_SOURCE = {
    # (provider, genai-prices id): (names, max output tokens, abilities); read in the providers' docs before they retired
    ("anthropic", "claude-3-5-sonnet"): (
        "claude-3-5-sonnet claude-3-5-sonnet-latest claude-3-5-sonnet-20240620 claude-3-5-sonnet-20241022",
        8192,
        CLAUDE,
    ),
    ("anthropic", "claude-3-5-haiku-latest"): (
        "claude-3-5-haiku claude-3-5-haiku-latest claude-3-5-haiku-20241022",
        8192,
        CLAUDE,
    ),
    ("anthropic", "claude-3-7-sonnet-latest"): (
        "claude-3-7-sonnet claude-3-7-sonnet-latest claude-3-7-sonnet-20250219",
        64000,
        f"{CLAUDE} reasoning",
    ),
    ("anthropic", "claude-3-haiku"): ("claude-3-haiku claude-3-haiku-20240307", 4096, "tools vision"),
    ("anthropic", "claude-3-opus-latest"): (
        "claude-3-opus claude-3-opus-latest claude-3-opus-20240229",
        4096,
        "tools vision",
    ),
    ("anthropic", "claude-sonnet-4-0"): (
        "claude-sonnet-4 claude-sonnet-4-0 claude-sonnet-4-20250514",
        64000,
        f"{CLAUDE} reasoning",
    ),
    ("anthropic", "claude-opus-4-0"): (
        "claude-opus-4 claude-opus-4-0 claude-opus-4-20250514",
        32000,
        f"{CLAUDE} reasoning",
    ),
    ("anthropic", "claude-opus-4-1"): (
        "claude-opus-4-1 claude-opus-4-1-20250805",
        32000,
        f"{CLAUDE} reasoning",
    ),
    ("openai", "o1-mini"): ("o1-mini o1-mini-2024-09-12", 65536, "reasoning"),
    ("openai", "o1-preview"): ("o1-preview o1-preview-2024-09-12", 32768, "reasoning"),
    ("openai", "chatgpt-4o-latest"): ("chatgpt-4o-latest", 16384, "vision"),
    ("google", "gemini-2.0-flash"): ("gemini-2.0-flash gemini-2.0-flash-001", 8192, GEMINI),
    ("google", "gemini-2.0-flash-lite"): ("gemini-2.0-flash-lite gemini-2.0-flash-lite-001", 8192, GEMINI),
    ("google", "gemini-1.5-flash"): ("gemini-1.5-flash gemini-1.5-flash-002", 8192, GEMINI),
    ("google", "gemini-1.5-pro"): ("gemini-1.5-pro gemini-1.5-pro-002", 8192, GEMINI),
    ("groq", "llama-3.3-70b-versatile"): ("llama-3.3-70b-versatile", 32768, "tools"),
    ("groq", "llama-3.1-8b-instant"): ("llama-3.1-8b-instant", 131072, "tools"),
}
WINDOWS = {  # where genai-prices has none
    "llama-3.3-70b-versatile": 131072,
    "llama-3.1-8b-instant": 131072,
}


@dataclass
class Line:
    """One line of the book: models alike in everything but the name."""

    figures: tuple[str, ...]
    names: list[str] = field(default_factory=list)


@dataclass
class Limits:
    """What is known of a model beside its price, and who said so."""

    window: int
    max_output: int | None
    can: list[str]
    by: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limits", type=Path, required=True, help="LiteLLM's model list, JSON")
    parser.add_argument(
        "--write", action="store_true", help="write the book; without it only the diff is printed"
    )
    options = parser.parse_args()
    from genai_prices.data import providers  # noqa: PLC0415 - this tool alone needs it, and only to refresh

    limits = json.loads(options.limits.read_text())
    models = {provider.id: provider for provider in providers}
    now = datetime.now(UTC)
    sections = []
    for ours, (theirs, _, _) in PROVIDERS.items():
        provider = models[theirs]
        lines: dict[tuple[str, ...], Line] = {}
        for name, figures in (
            *agreed(ours, provider, limits, now),
            *one_source(ours, provider, now),
        ):
            lines.setdefault(figures, Line(figures)).names.append(name)
        ordered = sorted(lines.values(), key=lambda line: min(line.names))
        body = "\n".join(f"{' '.join(sorted(line.names))} | {' | '.join(line.figures)}" for line in ordered)
        sections.append(f"@ {ours} {provider.pricing_urls[0]} {now:%Y-%m-%d}\n{body}\n")
    head = BOOK.read_text().split('BOOK = """', 1)[0] if BOOK.exists() else '"""The price book."""\n\n'
    text = f'{head}BOOK = """\n{"".join(sections)}"""\n'
    old = BOOK.read_text() if BOOK.exists() else ""
    sys.stdout.writelines(
        difflib.unified_diff(old.splitlines(True), text.splitlines(True), "book", "refreshed", n=0)
    )
    if options.write:
        BOOK.write_text(text)
    return 0


def agreed(
    ours: str, provider: Any, limits: dict[str, Any], now: datetime
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names that both sources price alike, with their figures."""
    _, lite, prefix = PROVIDERS[ours]
    for key, known in limits.items():
        name = key.removeprefix(prefix)
        if (
            known.get("litellm_provider") != lite
            or not key.startswith(prefix)
            or known.get("mode") not in MODES
        ):
            continue
        if (
            name in NOT_SERVED
            or any(part in name for part in NOT_TEXT)
            or "/" in name.removeprefix("openai/").removeprefix("qwen/")
        ):
            continue
        model = next((m for m in provider.models if m.is_match(name)), None)
        if model is None:
            print(f"# {ours} {name}: only in limits", file=sys.stderr)
            continue
        price, _ = dearest(model, now)
        if not only_text(price):
            continue
        theirs = [
            lite_price(known, kind)
            for kind in ("input", "output", "cache_read_input", "cache_creation_input")
        ]
        mine = [base(getattr(price, kind, None)) for kind in TOKENS]
        if known["mode"] == "embedding":
            mine[1] = theirs[1] = None  # there is no output to be billed
        if mine[:3] != theirs[:3] or (mine[3] and theirs[3] and mine[3] != theirs[3]):
            print(f"# {ours} {name}: {shown(mine)} or {shown(theirs)}?", file=sys.stderr)
            continue
        can = [word for flag, word in ABILITIES.items() if known.get(flag)] + [
            w for w in [MODES[known["mode"]]] if w
        ]
        if ours == "anthropic" and not known.get("supports_native_structured_output"):
            can = [word for word in can if word != "json_schema"]  # LiteLLM emulates it by a tool call
        window = max(model.context_window or 0, known.get("max_input_tokens") or 0)
        yield name, figures_of(model, now, Limits(window, known.get("max_output_tokens"), can, "both"))


def one_source(ours: str, provider: Any, now: datetime) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The reviewed names that only genai-prices has."""
    for (of, model_id), (names, max_output, can) in ONE_SOURCE.items():
        if of != ours:
            continue
        model = next(m for m in provider.models if m.id == model_id)
        window = model.context_window or WINDOWS.get(model_id, 0)
        for name in names.split():
            if not model.is_match(name):
                raise SystemExit(f"{name} is no {model_id} in genai-prices any more")
            yield name, figures_of(model, now, Limits(window, max_output, can.split(), "genai-prices"))


def dearest(model: Any, now: datetime) -> tuple[Any, str]:
    """The price in force; where it changes with the hour the highest one, so that budgets hold, and a note."""
    day = [model.get_prices(now.replace(minute=0) + timedelta(hours=hour)) for hour in range(24)]
    highest = max(day, key=lambda price: base(price.output_mtok) or Decimal(0))
    changes = any(price.output_mtok != highest.output_mtok for price in day)
    return highest, "peak hours, less at other hours" if changes else ""


def figures_of(model: Any, now: datetime, limits: Limits) -> tuple[str, ...]:
    price, note = dearest(model, now)
    batch = model.get_prices(now, {"processing": "batch"})
    has_batch = base(batch.output_mtok) != base(price.output_mtok) and not note
    if getattr(price, "input_audio_mtok", None) is not None:
        note = "audio input costs more than text"
    starts = sorted({tier.start for kind in TOKENS for tier in tiers(getattr(price, kind, None))})
    steps = [
        f"{start}: {four(price, start)}" for start in starts if not limits.window or start < limits.window
    ]
    return (
        f"{limits.window or '-'} {limits.max_output or '-'}",
        " ".join(sorted(limits.can)) or "-",
        four(price),
        four(batch) if has_batch else "-",
        "; ".join(steps) or "-",
        limits.by,
        note or "-",
    )


def four(price: Any, start: int | None = None) -> str:
    return " ".join(digits(at(getattr(price, kind, None), start)) for kind in TOKENS)


def at(price: Any, start: int | None) -> Decimal | None:
    found = base(price)
    for tier in tiers(price):
        if start is not None and tier.start <= start:
            found = tier.price
    return found


def base(price: Any) -> Decimal | None:
    return getattr(price, "base", price)


def tiers(price: Any) -> list[Any]:
    return list(getattr(price, "tiers", ()))


def only_text(price: Any) -> bool:
    has = {name for name, value in vars(price).items() if value is not None}
    return "input_mtok" in has and has <= EXTRAS | set(TOKENS)


def lite_price(known: dict[str, Any], kind: str) -> Decimal | None:
    value = known.get("input_cost_per_token" if kind == "input" else f"{kind}_cost_per_token")
    if kind.startswith("cache"):
        value = known.get(f"{kind}_token_cost")
    return None if value is None else (Decimal(repr(value)) * 1_000_000).normalize()


def digits(value: Decimal | None) -> str:
    return "-" if value is None else f"{value.normalize():f}"


def shown(prices: list[Decimal | None]) -> str:
    return " ".join(digits(price) for price in prices)


if __name__ == "__main__":
    sys.exit(main())
