import pytest

from schemas import quotes


def likeliest(text, context, stack):
    opener = quotes.OPENER.search(text)
    found, _ = quotes.ends(text, opener, context, stack, thorough=False)
    return text[opener.end() : found[0].stop], found[0]


@pytest.mark.parametrize(
    ("text", "context", "stack", "content"),
    [
        ('"a", "b": 1}', "member", ["}"], "a"),
        ('"a "b", c", "d": 1}', "member", ["}"], 'a "b", c'),
        ('"a {b} "c" d", "e": 1}', "member", ["}"], 'a {b} "c" d'),
        ('"a" "b"]', "item", ["]"], "a"),
        ('"a,\n"b"]', "item", ["]"], "a"),
        ('"a\n}', "member", ["}"], "a"),
        ('"it\\"s", "b": 1}', "member", ["}"], 'it\\"s'),
        ("'it's', 'b': 1}", "member", ["}"], "it's"),
        ('"a"b": 1', "key", ["}"], 'a"b'),
        ('"a: 1', "key", ["}"], "a"),
        ('"a.\\",\n"b": 1}', "member", ["}"], "a."),
        ("“a”, “b”: 1}", "member", ["}"], "a"),
    ],
    ids=[
        "as-it-should-be", "inner-quotes", "inner-brackets", "missing-comma", "missing-quote-before-a-line",
        "missing-quote-before-a-brace", "escaped-quote", "apostrophe", "quote-in-a-key", "key-without-end",
        "escaped-closing-quote", "typographic",
    ],
)  # fmt: skip
def test_a_string_ends_where_json_goes_on(text, context, stack, content):
    assert likeliest(text, context, stack)[0] == content


def test_a_perfect_end_costs_nothing():
    assert likeliest('"a", "b": 1}', "member", ["}"])[1].rank == 0


def test_swallowed_members_cost_more_than_quoted_words():
    word, swallowed = '"a "b" c", "d": 1}', '"a" : "b", "c": "d" e", "f": 1}'
    opener = quotes.OPENER.match(word)
    plain = quotes.ends(word, opener, "member", ["}"], thorough=True)[0]
    members = quotes.ends(swallowed, quotes.OPENER.match(swallowed), "member", ["}"], thorough=True)[0]
    price = {word[1 : end.stop]: end.price for end in plain}
    dear = {swallowed[1 : end.stop]: end.price for end in members}
    assert price['a "b" c'] < dear['a" : "b", "c": "d" e']


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (r"a\nb\u00e9\x41\/", "a\nbéA/"),
        (r"\ud83d\ude00", "😀"),
        (r"C:\dir \' \`", r"C:\dir ' `"),
        (r"\u12", r"\u12"),
        ("a\\\nb", "a\nb"),
    ],
    ids=["escapes", "surrogate-pair", "escapes-of-nothing", "cut-escape", "escaped-line-break"],
)
def test_escapes_say_what_they_mean(raw, said):
    assert quotes.unescape(raw) == said


def test_a_block_loses_the_indentation_round_it():
    assert quotes.block("\n    a:\n      b\n    ") == "a:\n  b"
