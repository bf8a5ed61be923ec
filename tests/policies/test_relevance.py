"""What has to do with a question, and how much."""

from policies.relevance import best, question_terms, relevance
from tests.policies.indexed import indexed

TALK = indexed(
    ("user", "My sister Clara moved to Lisbon in spring."),
    ("assistant", "How lovely."),
    ("user", "The printer on the third floor is broken."),
    ("assistant", "I will tell the office."),
    ("user", "When did Clara move to Lisbon?"),
)


def test_the_piece_that_answers_scores_highest():
    scores = relevance(TALK, "When did Clara move to Lisbon?", exclude=[4])
    assert max(scores, key=scores.__getitem__) == 0


def test_what_is_there_anyway_gets_no_score():
    assert 4 not in relevance(TALK, "When did Clara move to Lisbon?", exclude=[4])


def test_a_word_said_twice_counts_twice_and_asking_words_nothing():
    terms = question_terms(TALK, "Clara, where is Clara?")
    assert terms["clara"] == 2
    assert "where" not in terms


def test_a_question_without_words_finds_nothing():
    assert relevance(TALK, "?!") == {}


def test_the_best_are_as_many_as_asked():
    assert best({1: 3.0, 2: 1.0, 3: 2.0}, 2) == {1: 3.0, 3: 2.0}
