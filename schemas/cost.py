"""Whether validating against a schema may take long, so that the proxy does it elsewhere."""

from typing import Any, Literal

from schemas.dialect import Examined
from schemas.patterns import patterns_of, weight
from schemas.refs import Place

CostClass = Literal["cheap", "maybe_slow"]

# Each measured with a text of 1 MB (jsonschema-rs 0.60, one core of 2.5 GHz): at the bound it takes
# about 0.1 to 0.3 s, far below it a few milliseconds. What is not named here was linear and fast:
# uniqueItems of 30,000 values 2 ms, contains 50 ms, an enum of 5,000 strings 1 ms per 20,000 values.
MAX_HERE = 100  # schemas that look at each value
MAX_PATH = 1_000
MAX_RECURSIONS = 8
MAX_PATTERN_WEIGHT = 300  # 1,500 took 0.9 s, 15,000 took 9 s
MAX_NAME_PATTERNS = 50  # each name is matched with each: 500 took 0.3 s
MAX_CONTAINERS_IN_ENUM = 50  # compared one by one: 5,000 took 0.4 s for 2,000 values


def cost_class(examined: Examined) -> CostClass:
    """`cheap`: texts of up to 1 MB are validated in about 0.1 s at most, ordinary ones in microseconds."""
    expansion = examined.expansion
    if (
        expansion.here > MAX_HERE
        or expansion.path > MAX_PATH
        or expansion.recursions > MAX_RECURSIONS
        or any(_is_slow(place) for place in examined.places)
    ):
        return "maybe_slow"
    return "cheap"


def _is_slow(place: Place) -> bool:
    schema = place.schema
    containers = sum(isinstance(value, dict | list) for value in _listed(schema.get("enum")))
    return (
        containers > MAX_CONTAINERS_IN_ENUM
        or len(schema.get("patternProperties", ())) > MAX_NAME_PATTERNS
        or any(weight(pattern) > MAX_PATTERN_WEIGHT for _, pattern in patterns_of(place))
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
