import pytest

from policies.chat import Failure, Reply, Usage
from policies.contract import Verdict
from policies.ladder import Attempt
from proxy.learning import MOST_STEPS, Learning, Taught
from proxy.stores.memory import MemoryStore

USAGE = Usage(100, 40)
NAMES = {"mini": "mini", "big": "big"}


def attempt(model, **rest):
    return Attempt(1, model, "answer", Reply((), USAGE), verdict=Verdict("valid"), usage=USAGE, **rest)


def taught(alias, step="*"):
    return Taught(None, "r", step, alias)


def test_the_model_whose_answer_was_kept_was_good_and_those_below_it_were_not():
    learning = Learning()
    learning.ended("req_1", taught("big"), [("mini", attempt("mini")), ("big", attempt("big"))])
    known = learning.of("r", NAMES)["*"]
    assert known["mini"].success < 0.5 < known["big"].success
    assert known["big"].n == 1


def test_two_that_agreed_were_both_good():
    learning = Learning()
    pair = [("mini", attempt("mini", set_aside="agreement")), ("big", attempt("big"))]
    learning.ended("req_1", taught("big"), pair)
    assert learning.of("r", NAMES)["*"]["mini"].success > 0.5


def test_a_call_without_a_reply_teaches_nothing():
    learning = Learning()
    down = Attempt(1, "mini", "answer", failure=Failure("connect", "x"))
    learning.ended("req_1", taught(""), [("mini", down)])
    assert not learning.of("r", NAMES)
    assert learning.about("req_1") is None


def test_steps_of_the_clients_choice_are_bounded():
    learning = Learning()
    for n in range(MOST_STEPS + 10):
        learning.ended(f"req_{n}", taught("mini", f"step {n}"), [("mini", attempt("mini"))])
    known = learning.of("r", NAMES)
    assert len(known) == MOST_STEPS + 1
    assert known["*"]["mini"].n == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize("rows", [[["*", "mini"]], [["*", "mini", {"good": "x"}]], [7], "text", {"a": 1}])
async def test_notes_that_cannot_be_read_are_forgotten(rows):
    store, learning = MemoryStore(), Learning()
    await store.put_note("routing/r", rows)
    await learning.load(store, ["r"])
    assert not learning.of("r", NAMES)


async def test_counts_are_written_down_and_read_again():
    store, learning, later = MemoryStore(), Learning(), Learning()
    learning.ended("req_1", taught("mini", "read"), [("mini", attempt("mini"))])
    assert learning.feedback("req_1", 0.25)
    assert not learning.feedback("req_1", 1.0)
    await learning.save(store)
    await later.load(store, ["r"])
    assert later.of("r", NAMES)["read"] == learning.of("r", NAMES)["read"]
