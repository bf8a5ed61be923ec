"""The types of the configuration's fields: amounts, times, shares, names, each with its bounds and its words.

Types are strict and unknown fields are errors.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from proxy.config.environ import FromEnvironment
from proxy.config.tree import resolved
from proxy.snapshot import admin_address

NANO = 10**9
PICO = 10**12
MILLION = 10**6
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,15})?\Z")

Ability = Literal["json_object", "json_schema", "tools", "vision", "audio", "pdf", "reasoning", "embeddings"]


@dataclass(frozen=True, slots=True)
class Words:
    """How a type is called in messages and in the reference."""

    text: str


def typed(value: Any) -> Any:
    """A number or truth value that came from the environment as a text."""
    return resolved(value) if isinstance(value, FromEnvironment) else value


def _amount(value: Any) -> Decimal:
    """An amount of USD without the loss of a float: its shortest text is what was written."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        text: Any = format(Decimal(repr(value)), "f")  # without an exponent
    else:
        text = value
    if not isinstance(text, str) or not _AMOUNT.match(text):
        raise ValueError("not an amount of USD")
    return Decimal(text)


def _pico_per_token(value: Any) -> int:
    """USD per million tokens as pico-USD per token."""
    exact = _amount(typed(value)) * (PICO // MILLION)
    if exact != int(exact):
        raise ValueError("finer than a millionth of a dollar per million tokens")
    return int(exact)


def _nanousd(value: Any) -> int:
    """USD as nano-USD."""
    exact = _amount(typed(value)) * NANO
    if exact != int(exact):
        raise ValueError("finer than a nano-dollar")
    return int(exact)


def checked_base_url(value: Any) -> Any:
    """The URL without a slash at its end. No message repeats it: it may hold a password."""
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
        valid = (
            parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        valid = False
    if not valid or re.search(r"[^\x21-\x7e]", value):
        raise ValueError("not an http or https URL")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or a password; use api_key or headers")
    if parts.query or parts.fragment:
        raise ValueError("has a query or a fragment; put the query under `query`")
    return value.rstrip("/")


def checked_admin(value: Any) -> Any:
    if isinstance(value, str):
        admin_address(value)
    return value


def checked_network(value: Any) -> Any:
    if isinstance(value, str):
        try:
            ip_network(value, strict=False)
        except ValueError:
            raise ValueError("not an address or a network") from None
    return value


def checked_store(value: Any) -> Any:
    if isinstance(value, str) and not re.match(r"(memory:|sqlite:///.+|postgres(ql)?://.+)\Z", value):
        raise ValueError("not a store that Tailrace knows")
    return value


Usd = Annotated[int, BeforeValidator(_nanousd), Field(gt=0), Words("an amount of USD above 0, such as 0.05")]
UsdPerMillion = Annotated[
    int, BeforeValidator(_pico_per_token), Words("USD per million tokens, such as 0.15")
]
Truth = Annotated[bool, BeforeValidator(typed)]
Whole = Annotated[int, BeforeValidator(typed)]
Count = Annotated[Whole, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, BeforeValidator(typed), Field(gt=0, le=86_400, allow_inf_nan=False)]
KeptSeconds = Annotated[float, BeforeValidator(typed), Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Model = Annotated[Text, Words("a model's alias")]
Share = Annotated[float, BeforeValidator(typed), Field(ge=0, le=1, allow_inf_nan=False)]
Tag = Annotated[Text, Words("a tag's name")]


class StrictModel(BaseModel):
    model_config = ConfigDict(
        defer_build=True, extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True
    )
