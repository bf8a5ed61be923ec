"""The parts that trimming is made of: words, passages, questions, windows, the printed decision."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.cards import ModelCard, Price
from policies.index import Index
from policies.passages import LONG, cut, title_of
from policies.questions import question_of, question_spans
from policies.room import ensure_it_fits, room
from policies.terms import Lexicon, asked_kinds, identifiers, marks, stem
from policies.trim_report import render_trim
from policies.trimming import BudgetTooSmall, recent
from policies.units import long_text, with_long_text


class Words:
    def count_text(self, text):
        return len(text.split())

    def count_message(self, message):
        return 4 + self.count_text(message.get("content") or "")


WORDS = Words()


@pytest.mark.parametrize(
    "words",
    [
        "exclusive exclusively",
        "compete competes competing competition",
        "terminate terminates terminated termination",
        "study studies",
        "run running",
        "planned planning plans",
    ],
)
def test_relatives_share_a_stem(words):
    assert len({stem(word) for word in words.split()}) == 1


@pytest.mark.parametrize(
    "words", ["university universe-", "was wash", "new news2", "cat cart", "organ orange"]
)
def test_strangers_do_not_share_a_stem(words):
    assert len({stem(word) for word in words.split()}) == 2


def test_words_that_tell_nothing_are_left_out_and_unspaced_scripts_are_matched_by_pairs():
    assert Lexicon().terms("The dog and the dogs") == ["dog", "dog"]
    assert set(Lexicon().terms("退款政策")) & set(Lexicon().terms("请问退款"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("order ORD4711 of mia_kim_4397 on 2024-05-21", {"ORD4711", "mia_kim_4397", "2024-05-21"}),
        ("write to a.b@example.org about credit_card_96", {"a.b@example.org", "credit_card_96"}),
        ("cabin basic_economy in 1987", {"basic_economy", "1987"}),
        ("plain words and 12 of them", set()),
    ],
)
def test_identifiers_are_words_that_mean_one_thing(text, found):
    assert identifiers(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[3 May 2023] Ann: we met", ["@ann"]),
        ("[3 May 2023] Ann: we met yesterday", ["#time", "@ann"]),
        ("it costs $5", ["#money", "#number"]),
        ("three of them", ["#number"]),
        ("nothing of the kind", []),
    ],
)
def test_a_text_is_marked_with_the_answers_it_may_give(text, found):
    assert marks(text, Lexicon().terms(text) + text.lower().split()) == found


def test_a_question_asks_for_kinds_of_answers():
    assert asked_kinds("When did it start, and how much did it cost?") == ["#time", "#money", "#number"]
    assert asked_kinds("Who was there?") == []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("[Hello Love (song)]\nA single.", "Hello Love"),
        ("# Setup\nRun it.", "Setup"),
        ("Anna Quill\nAnna Quill was a singer who was born in Fernwick and moved to town.", "Anna Quill"),
        ("A sentence that ends.\nAnd another line that is a good deal longer than the one before it.", None),
        ("plain", None),
    ],
)
def test_a_passage_has_a_title_where_a_reader_would_see_one(text, title):
    assert title_of(text) == title


long_texts = st.lists(
    st.sampled_from(
        ["word ", "a", "\n\n", "\n", ". ", '{"id": "X1"}, ', "[", "漢字", "  ", "[Title]\n", "x" * 500]
    ),
    min_size=1,
    max_size=400,
).map("".join)


@given(long_texts)
def test_passages_are_in_order_bounded_and_leave_only_white_space_and_commas_between_them(text):
    parts = cut(text)
    at = 0
    for passage in parts.passages:
        assert at <= passage.start < passage.end or text == ""
        assert text[at : passage.start].strip(" \n,") == ""
        assert passage.end - passage.start <= LONG or len(parts.passages) == 1
        at = passage.end
    assert text[at:].strip(" \n,") == ""


@pytest.mark.parametrize("unit", ["a", " ", "\n", "{", '{"a":', "[x]\n", "a\n\n", "1,", "_a", "@", "a@", '"'])
def test_hostile_texts_are_read_in_linear_time(unit):
    text = unit * (400_000 // len(unit))
    start = time.perf_counter()
    index = Index(WORDS)
    index.follow([{"role": "user", "content": text}, {"role": "user", "content": text[:1000]}])
    question_spans(text)
    for piece in range(len(index.pieces)):
        index.identifiers(piece)
    assert time.perf_counter() - start < 3


def test_the_question_is_found_before_and_after_what_was_pasted():
    pasted = "\n\n".join(f"Paragraph {n} tells of things that nobody wanted to know." for n in range(60))
    for text in (f"What is it about?\n\n{pasted}", f"{pasted}\n\nWhat is it about?"):
        assert question_of([{"role": "user", "content": text}]).strip() == "What is it about?"
    assert "Paragraph 0" in question_of([{"role": "user", "content": pasted}])
    assert question_of([{"role": "assistant", "content": "hi"}]) == ""


def test_the_longest_text_part_is_the_one_that_may_be_shortened():
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "text", "text": "abc"},
    ]
    message = {"role": "user", "content": parts}
    assert long_text(message) == "abc"
    assert with_long_text(message, "b")["content"] == [*parts[:2], {"type": "text", "text": "b"}]
    assert parts[2]["text"] == "abc"


@pytest.mark.parametrize(
    ("card", "asked", "tokens"),
    [
        pytest.param({"window_tokens": None}, None, None, id="unknown-window-bounds-nothing"),
        pytest.param({"window_tokens": 8_192}, 1_000, 7_192, id="the-answer-is-kept-free"),
        pytest.param(
            {"window_tokens": 8_192, "max_output_tokens": 500}, 1_000, 7_692, id="as-far-as-the-model-goes"
        ),
        pytest.param({"window_tokens": 128_000}, None, 126_976, id="a-usual-answer-where-nothing-is-said"),
        pytest.param({"window_tokens": 2_048}, None, 1_792, id="an-eighth-of-a-small-window"),
    ],
)
def test_a_window_leaves_room_for_the_prompt(card, asked, tokens):
    found = room(ModelCard("m", "p", "m", **card), asked)
    assert (found and found.tokens) == tokens


def test_what_must_stay_and_does_not_fit_a_window_is_named():
    index = Index(WORDS)
    index.follow(
        [
            {"role": "system", "content": "one two three"},
            {"role": "user", "content": "old " * 500},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "what now"},
        ]
    )
    assert ensure_it_fits(index, 200) == 3 + 7 + 6
    with pytest.raises(BudgetTooSmall, match="instructions 7, question 6") as refused:
        ensure_it_fits(index, 30, overhead_tokens=53)
    assert refused.value.parts == {"tools": 50, "instructions": 7, "question": 6}
    assert (refused.value.needed_tokens, refused.value.room_tokens) == (66, 30)


def test_a_decision_is_printed_with_what_stays_what_goes_why_and_the_money():
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "old " * 30},
        {"role": "user", "content": "and now?"},
    ]
    counts = [6, 34, 6]
    price = Price(input=3_000, output=10_000)
    lines = render_trim(recent(chat, counts, 20), price, saved_tokens=400).splitlines()
    assert lines[:4] == [
        "the last 2 of 3 messages fit",
        "in 49, out 15 tokens: 34 less (69 %)",
        "at full input price $0.000147 -> $0.000045",
        "expected over the coming turns: $0.001200 saved",
    ]
    assert "  system     Be brief." in lines
    assert any("message 1: 34 tokens, older" in line for line in lines)
    assert "goes: nothing" in render_trim(recent(chat, counts, 100))
    assert "DOES NOT FIT" in render_trim(recent(chat, counts, 5))
