import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.facts import demands, fingerprint, schema_name, system_text, tool_names

TOOL = {"type": "function", "function": {"name": "book", "parameters": {}}}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
VOICE = {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        pytest.param({"messages": [{"role": "user", "content": "hi"}]}, set(), id="plain-text-asks-nothing"),
        pytest.param({"tools": [TOOL]}, {"tools"}, id="tools"),
        pytest.param({"tools": []}, set(), id="no-tools-in-the-list"),
        pytest.param({"response_format": {"type": "json_schema"}}, {"json_schema"}, id="json-schema"),
        pytest.param({"response_format": {"type": "json_object"}}, set(), id="json-mode-is-no-schema"),
        pytest.param({"messages": [IMAGE]}, {"vision"}, id="image-part"),
        pytest.param({"messages": [VOICE]}, {"audio"}, id="audio-part"),
        pytest.param({"modalities": ["text", "audio"]}, {"audio"}, id="audio-out"),
    ],
)
def test_abilities_are_read_from_the_request(body, asked):
    assert demands(body) == asked


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
FIELDS = st.sampled_from(["messages", "tools", "response_format", "modalities", "audio", "functions"])


@given(st.dictionaries(FIELDS, JSON))
def test_no_body_makes_the_readers_fail(body):
    assert demands(body) <= {"tools", "json_schema", "vision", "audio"}
    assert isinstance(system_text(body), str)
    assert isinstance(tool_names(body), tuple)
    assert schema_name(body) is None or isinstance(schema_name(body), str)
    assert len(fingerprint(body)) == 12


def test_the_fingerprint_is_that_of_a_step_and_not_of_its_data():
    system = {"role": "system", "content": "Extract the invoice."}
    one = {"messages": [system, {"role": "user", "content": "first"}], "tools": [TOOL]}
    two = {"messages": [system, {"role": "user", "content": "second"}], "tools": [TOOL], "temperature": 1}
    other = {"messages": [{"role": "system", "content": "Plan."}], "tools": [TOOL]}
    assert fingerprint(one) == fingerprint(two) != fingerprint(other)


def test_only_leading_system_messages_are_the_system_prompt():
    messages = [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
        {"role": "system", "content": "d"},
    ]
    assert system_text({"messages": messages}) == "a\nb"


def test_names_of_tools_and_schema():
    assert tool_names({"tools": [TOOL, {"function": {"name": 3}}, None]}) == ("book",)
    assert schema_name({"response_format": {"json_schema": {"name": "invoice"}}}) == "invoice"
