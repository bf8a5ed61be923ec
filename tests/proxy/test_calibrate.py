import json
import random
import xml.dom.minidom

import pytest
import yaml

from proxy.calibrate import best, compare
from proxy.cli import main
from proxy.logged import LogRefused, read


def line(number, dice, **changed):
    """Steps that differ: `copy` is safe with the cheap model, `reason` is not, and its answers say so."""
    step = "copy" if dice.random() < 0.7 else "reason"
    bad = step == "reason" and dice.random() < 0.8
    words = " ".join(dice.choice(["copy", "this", "field", "please"]) for _ in range(8))
    if step == "reason":
        words = f"prove that {dice.randint(1, 99)} divides {words}, and explain why"
    row = {
        "ts": number,
        "route": "r",
        "step": step,
        "messages": [{"role": "user", "content": words}],
        "answers": {
            "mini": {
                "quality": 0.0 if bad else 1.0,
                "cost_nanousd": 10,
                "signals": {"valid": not bad, "chars": 9},
            },
            "big": {"quality": 1.0, "cost_nanousd": 200},
        },
    }
    return json.dumps({**row, **changed})


def log(n, seed=1):
    dice = random.Random(seed)
    return "\n".join(line(i, dice) for i in range(n))


@pytest.fixture(scope="module")
def ways():
    return {way.name: way for way in compare(read(log(700), "r", "mini", "big"), 0.98, 0.05)}


def test_every_way_is_compared(ways):
    assert list(ways) == [
        "always strong",
        "always cheap",
        "random at equal cost",
        "step table",
        "scorer",
        "cascade",
        "oracle",
    ]


def test_the_certified_way_keeps_the_floor_on_unseen_traffic_and_saves(ways):
    chosen = best(list(ways.values()))
    strong = ways["always strong"].line[0]
    assert chosen.reached.quality >= 0.98 * strong.quality
    assert chosen.reached.cost_nanousd < 0.6 * strong.cost_nanousd


def test_random_at_equal_cost_is_worse(ways):
    chosen = best(list(ways.values()))
    mixed = ways["random at equal cost"].reached
    assert mixed.cost_nanousd == pytest.approx(chosen.reached.cost_nanousd)
    assert mixed.quality < chosen.reached.quality


def test_a_cascade_pays_for_its_cheap_calls(ways):
    assert ways["cascade"].line[-1].cost_nanousd == pytest.approx(210)
    assert ways["scorer"].line[-1].cost_nanousd == pytest.approx(200)


def calibrate(tmp_path, text):
    (tmp_path / "log.jsonl").write_text(text)
    arguments = ["--route", "r", "--cheap", "mini", "--strong", "big", "--keep", "0.9"]
    return main(
        ["calibrate", *arguments, "--log", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "out")]
    )


def test_the_command_prints_draws_and_writes_what_a_person_reviews(tmp_path, capsys):
    assert calibrate(tmp_path, log(300)) == 0
    printed = capsys.readouterr().out
    assert "oracle" in printed
    sheet = yaml.safe_load((tmp_path / "out" / "r.yaml").read_text())
    assert (sheet["route"], sheet["plan"]["certified"], sheet["log"]["n"]) == ("r", True, 300)
    assert len(sheet["log"]["sha256"]) == 64
    assert sheet["good_answers"]["mini"]["low"] < sheet["good_answers"]["mini"]["share"]
    assert xml.dom.minidom.parse(str(tmp_path / "out" / "r.svg")).documentElement.tagName == "svg"


def test_with_little_data_nothing_is_certified(tmp_path, capsys):
    assert calibrate(tmp_path, log(100)) == 0
    assert "no saving certified" in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "out" / "r.yaml").read_text())["plan"] == {
        "certified": False,
        "start": "big",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "0 exchanges", id="empty"),
        pytest.param("{", "line 1", id="not-json"),
        pytest.param('\n{"route": "r"}', "line 2", id="no-answers"),
        pytest.param(
            line(
                1,
                random.Random(1),
                answers={"mini": {"quality": 2, "cost_nanousd": 1}, "big": {"quality": 1}},
            ),
            "quality 2",
            id="quality-out-of-range",
        ),
        pytest.param("[1]", "line 1", id="not-an-object"),
    ],
)
def test_a_log_that_cannot_be_used_says_where_and_why(tmp_path, capsys, text, says):
    assert calibrate(tmp_path, text) == 1
    assert says in capsys.readouterr().err


def test_the_log_is_read_in_the_order_of_time():
    lines = log(200).splitlines()
    shuffled = random.Random(2).sample(lines, len(lines))
    found = read("\n".join(shuffled), "r", "mini", "big")
    assert [exchange.ts for exchange in found] == list(range(200))
    with pytest.raises(LogRefused):
        read("\n".join(lines), "other", "mini", "big")
