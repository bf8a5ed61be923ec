"""What was found out about a schema says whether it is used where others wait."""

import pytest

from schemas.trial import COMPILED_HERE_S, JUDGED_HERE_S, Trial

TRIALS = {
    "ordinary": (Trial(compile_s=COMPILED_HERE_S, worst_s=JUDGED_HERE_S, worst="a text"), ""),
    "long-to-compile": (Trial(compile_s=0.02), "compiling it takes 20 ms"),
    "long-to-judge": (
        Trial(worst_s=0.5, worst="a text at the root"),
        "judging a text at the root of 1 MiB takes 500 ms",
    ),
    "unbounded": (Trial(unbounded=True), "what it may cost cannot be bounded"),
}


@pytest.mark.parametrize(("trial", "slow"), TRIALS.values(), ids=TRIALS)
def test_what_is_slow_says_why(trial, slow):
    assert trial.slow == slow
