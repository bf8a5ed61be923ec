"""How much each piece of a conversation tells about the question. Every term of the score has its reason here.

What leaving out a term costs, in points of "all evidence kept", mean over budgets of 5, 10 and 20 % (harness
`context`, questions for development): related words 3 on contracts and 2 on dialogues; neighbours 4 and 2;
links between search results 13 there; second hop 2 on search results; asking words 3 and quotation marks 1 on
contracts. Plain BM25 over the same pieces is 9 below on dialogues, 14 on contracts, 17 on search results.
"""

import heapq
from collections.abc import Collection, Sequence

from policies.index import PROSE, TURN, Index
from policies.passages import title_of
from policies.terms import ASKING_WORDS, RELATED, asked_kinds, names, quoted, stem

Scores = dict[int, float]
"""By piece number; a piece that is not there has nothing to do with the question."""

QUOTED = 1.0
"""Added to a term in quotation marks: the asker's own word for what is sought."""
ANSWER_KIND = 1.5
"""Weight of "holds a date", "holds an amount" where the question asks for one."""
SPEAKER = 2.0
"""Weight of a turn being spoken by somebody the question names, against 1 for being mentioned."""
RELATED_WORD = 0.4
"""Weight of a word that means the same as the question's."""
# A turn answers the one before it and is answered by the next: what matters is said around the match.
NEAR_TURNS = ((-2, 0.3), (-1, 0.5), (1, 0.5), (2, 0.3))
# In prose a heading or a first sentence speaks for what follows more than the other way round.
NEAR_PASSAGES = ((-2, 0.25), (-1, 0.5), (1, 0.3), (2, 0.15))
SECOND_HOP = 0.3
"""Weight of the best word that the best pieces have and the question has not."""
HOP_PIECES, HOP_TERMS = 10, 30
LINK, TITLE = 1.0, 0.4
"""Search results point to each other: by shared names, and by one naming the other's title."""
LINKING_PIECES, LINK_ROUNDS = 5, 2
MOST_SHARED = 100
"""A name that stands in more pieces than this points to none of them."""
LEAST_CANDIDATES, CANDIDATES_EACH = 300, 3
"""How many of the first matches are looked at closely: more than can be taken, as neighbours change the order."""
MOST_PLACES = 6_000
"""Places looked at for one question, rarest words first: it bounds the time on very long conversations."""


def relevance(index: Index, question: str, exclude: Collection[int] = (), wanted: int = 1_000) -> Scores:
    """The score of each piece that has to do with `question`, any scale.

    Pieces in `exclude` are there anyway: they get no score, and lead to others only as neighbours. About
    `wanted` pieces will be taken; only a few times as many are looked at closely.
    """
    asked = question_terms(index, question)
    scores: Scores = {}
    add_terms(index, asked, scores)
    scores = with_neighbours(index, best(scores, max(LEAST_CANDIDATES, CANDIDATES_EACH * wanted)))
    for piece in exclude:
        scores.pop(piece, None)
    hop_terms(index, asked, scores)
    for _ in range(LINK_ROUNDS):
        add_links(index, asked, scores)
    for piece in exclude:
        scores.pop(piece, None)
    return scores


def question_terms(index: Index, question: str) -> dict[str, float]:
    """What to look for, with weights: the question's words, each as often as it is said, and what they stand for."""
    terms: dict[str, float] = {}
    asking = {stem(word) for word in ASKING_WORDS}
    for term in index.lexicon.terms(question):
        terms[term] = terms.get(term, 0.0) + 1
    for term in asking & terms.keys():
        del terms[term]
    for phrase in quoted(question):
        for term in index.lexicon.terms(phrase):
            if term in terms:
                terms[term] += QUOTED
    for term, weight in list(terms.items()):
        if index.spread("@" + term):
            terms["@" + term] = SPEAKER * weight
        for other in RELATED.get(term, ()):
            terms.setdefault(other, RELATED_WORD * weight)
    for kind in asked_kinds(question):
        terms[kind] = ANSWER_KIND
    return terms


def add_terms(index: Index, terms: dict[str, float], scores: Scores) -> None:
    """BM25 of `terms` is in `scores`."""
    left = MOST_PLACES
    for term in sorted(terms, key=index.spread):
        left -= index.spread(term)
        if left < 0:
            break
        index.add_scores(term, terms[term], scores)


def best(scores: Scores, most: int) -> Scores:
    """The `most` highest scores."""
    if len(scores) <= most:
        return scores
    return {piece: scores[piece] for piece in heapq.nlargest(most, scores, key=scores.__getitem__)}


def with_neighbours(index: Index, scores: Scores) -> Scores:
    """Scores with a share of what stands next to each piece: turns of a dialogue, passages of running text."""
    kinds, pieces, last = index.kinds, index.pieces, len(index.pieces) - 1
    spread = dict(scores)
    for piece, score in scores.items():
        kind = kinds[piece]
        if kind == TURN:
            for offset, share in NEAR_TURNS:
                near = piece + offset
                if 0 <= near <= last and kinds[near] == TURN:
                    spread[near] = spread.get(near, 0.0) + share * score
        elif kind == PROSE:
            message = pieces[piece].message
            for offset, share in NEAR_PASSAGES:
                near = piece - offset  # the share is what a piece takes from the one at its offset
                if 0 <= near <= last and pieces[near].message == message:
                    spread[near] = spread.get(near, 0.0) + share * score
    return spread


def hop_terms(index: Index, asked: dict[str, float], scores: Scores) -> None:
    """What the best pieces speak of and the question does not name is looked for as well, with less weight."""
    worth: dict[str, float] = {}
    for piece, share in _leaders(scores, HOP_PIECES):
        for term in index.terms_of(piece):
            if term not in asked and len(term) > 2 and term[0] not in "#@":
                worth[term] = worth.get(term, 0.0) + share * index.rarity(term)
    chosen = heapq.nlargest(HOP_TERMS, worth.items(), key=lambda item: item[1])
    if chosen:
        most = chosen[0][1]
        add_terms(index, {term: SECOND_HOP * value / most for term, value in chosen if value > 0}, scores)


def add_links(index: Index, asked: dict[str, float], scores: Scores) -> None:
    """A record that a good record points to is good as well: the best pointer counts, not their sum."""
    if not index.titles:
        return
    records = [p for p in scores if index.pieces[p].form == "records"]
    if not records:
        return
    leaders = _leaders({p: scores[p] for p in records}, LINKING_PIECES)
    highest = max(scores[p] for p in records)
    gains: Scores = {}
    for leader, share in leaders:
        for piece, strength in shared_names(index, leader, asked).items():
            gains[piece] = max(gains.get(piece, 0.0), LINK * share * strength)
        for piece in titles_between(index, leader):
            gains[piece] = max(gains.get(piece, 0.0), TITLE * share * highest)
    for piece, gain in gains.items():
        scores[piece] = scores.get(piece, 0.0) + gain


def shared_names(index: Index, piece: int, asked: dict[str, float]) -> Scores:
    """How strongly other pieces share the names of this one that the question does not have; rare names count more."""
    rarities = {}
    for name in names(index.text(piece)):
        term = stem(name)
        if term not in asked and 0 < index.spread(term) <= MOST_SHARED:
            rarities[term] = index.rarity(term)
    length = sum(value * value for value in rarities.values()) ** 0.5 or 1.0
    shared: Scores = {}
    for term, value in rarities.items():
        for other, _ in index.places(term):
            if other != piece:
                shared[other] = shared.get(other, 0.0) + value * value / length
    return shared


def titles_between(index: Index, piece: int) -> set[int]:
    """The records whose title this one names, and those that name this one's title."""
    text = index.text(piece).lower()
    mine = (title_of(text) or "").lower()
    found = set()
    for other, title in index.titles.items():
        if other != piece and (
            (len(title) > 3 and title in text) or (len(mine) > 3 and mine in index.text(other).lower())
        ):
            found.add(other)
    return found


def _leaders(scores: Scores, most: int) -> Sequence[tuple[int, float]]:
    """The best pieces with their score as a share of the best one's."""
    chosen = heapq.nlargest(most, scores, key=scores.__getitem__)
    highest = scores[chosen[0]] if chosen else 0.0
    return [(piece, scores[piece] / highest) for piece in chosen] if highest > 0 else []
