"""Strategies for values and for schemas that say something about them."""

import json

from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "b", "ab", "\\", '"', "é", "😀", "\ud83d", "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from("abcd")
LEAF_SCHEMAS = st.one_of(
    st.just({}),
    st.booleans(),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])}
    ),
    st.fixed_dictionaries(
        {"type": st.lists(st.sampled_from(["null", "integer", "string", "object"]), min_size=1, unique=True)}
    ),
    st.fixed_dictionaries(
        {"enum": st.lists(JSON.filter(lambda v: "\\ud83d" not in json.dumps(v)), min_size=1, max_size=3)}
    ),
    st.sampled_from(
        [{"const": "ab"}, {"minLength": 1}, {"maxLength": 1}, {"pattern": "^a"}, {"format": "date"}]
    ),
    st.sampled_from(
        [{"minimum": 1}, {"exclusiveMaximum": 2}, {"multipleOf": 2}, {"$ref": "#"}, {"$ref": "#/$defs/a"}]
    ),
    st.sampled_from(
        [{"uniqueItems": True}, {"minItems": 1}, {"maxItems": 1}, {"minProperties": 1}, {"maxProperties": 1}]
    ),
    st.fixed_dictionaries({"required": st.lists(NAMES, unique=True, max_size=2)}),
)


def combined(inner):
    few = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.fixed_dictionaries(
            {"properties": st.dictionaries(NAMES, inner, max_size=3)},
            optional={
                "additionalProperties": inner,
                "required": st.lists(NAMES, unique=True, max_size=2),
                "patternProperties": st.dictionaries(st.sampled_from(["[ab]", "^c", ""]), inner, max_size=1),
                "propertyNames": inner,
                "anyOf": few,
            },
        ),
        st.fixed_dictionaries({"items": inner}, optional={"prefixItems": few, "contains": inner}),
        st.fixed_dictionaries({"anyOf": few}, optional={"oneOf": few, "not": inner, "allOf": few}),
        st.fixed_dictionaries({"oneOf": few}),
        st.fixed_dictionaries({"allOf": few}),
        st.fixed_dictionaries({"if": inner}, optional={"then": inner, "else": inner}),
        st.fixed_dictionaries({"dependentSchemas": st.dictionaries(NAMES, inner, max_size=2)}),
        st.fixed_dictionaries({"unevaluatedProperties": inner, "anyOf": few}),
    )


SCHEMAS = st.recursive(LEAF_SCHEMAS, combined, max_leaves=8).filter(lambda schema: isinstance(schema, dict))
