"""A model's own tokens: learned from its usage, and told wherever a header, a budget or a window is kept in tokens."""

import random

import openai
import pytest
from aiohttp import web

from policies.cards import ModelCard, Price
from policies.constraints import sift
from policies.facts import Candidate, Facts
from policies.route import Route
from policies.trimming import Trimmed
from proxy.counters import Counter
from proxy.estimates import Estimate, Paces
from tests.proxy.scripted import Upstream, proxy, reply
from tests.proxy.test_conversations import history

OURS = Counter()
OURS.warm()


def telling(factor, noise=0.0, seed=1):
    """An upstream whose tokenizer makes `factor` tokens of one of ours, give or take a share of `noise`."""
    chance = random.Random(seed)

    async def step(request, body):
        ours = OURS.count_messages(body["messages"]).total
        prompt = round(ours * factor * (1 + noise * chance.uniform(-1, 1)))
        return web.json_response(reply("ok", usage={"prompt_tokens": prompt, "completion_tokens": 1}))

    return step


ROUTES = """
  talk: {ladder: [mini], context: {policy: relevant, budget_tokens: 600}}
  last: {ladder: [mini], context: {policy: recent, budget_tokens: 600}}
  windows: {ladder: [tiny, large], choose: cheapest_able, context: {policy: recent, budget_tokens: 3000}}
  tight: {ladder: [tiny], context: {policy: recent, budget_tokens: 700}}
"""
MODELS = """
  tiny: {provider: up, name: up-tiny, window_tokens: 1000, price: {input: 1, output: 1}}
  large: {provider: up, name: up-large, window_tokens: 100000, price: {input: 5, output: 5}}
"""


def texts(n):
    """A prompt like no other."""
    words = ["weather", "invoice", "Übermut", "meeting", "naïve", "Rex", "№7731", "tomorrow", "hills", "été"]
    chance = random.Random(n)
    content = " ".join(chance.choice(words) for _ in range(chance.randint(20, 400)))
    return [{"role": "user", "content": content}]


async def ask(app, route, messages):
    raw = await app.client.chat.completions.with_raw_response.create(
        model=route, messages=messages, max_tokens=20
    )
    told = dict(part.split("=") for part in raw.headers.get("x-tailrace-context", "in=0;out=0").split(";"))
    return raw.parse().usage.prompt_tokens, told


@pytest.mark.parametrize("factor", [0.7, 0.93, 1.0, 1.18, 1.6, 2.4])
@pytest.mark.parametrize("route", ["talk", "last"])
async def test_after_twenty_requests_the_header_is_within_three_percent_of_the_usage(factor, route):
    async with Upstream(telling(factor, noise=0.05)).running() as upstream:
        async with proxy(upstream, routes=ROUTES, models=MODELS) as app:
            for n in range(20):
                await ask(app, route, texts(n))
            upstream.script = [telling(factor)]
            off = []
            for n in range(100, 110):
                used, told = await ask(app, route, [*history(60), *texts(n)])
                assert int(told["in"]) > 600
                off.append(abs(int(told["out"]) / used - 1))
            assert max(off) <= 0.03


async def test_a_route_whose_every_prompt_is_trimmed_learns_as_well_and_keeps_its_budget():
    async with Upstream(telling(1.5)).running() as upstream:
        async with proxy(upstream, routes=ROUTES, models=MODELS) as app:
            spent = []
            for n in range(20):
                used, told = await ask(app, "talk", [*history(80 + n), *texts(n)[:1]])
                spent.append((used, int(told["out"])))
    assert spent[0][0] > 600  # nothing is known of the model yet
    assert all(used <= 600 and abs(out / used - 1) < 0.03 for used, out in spent[2:])


async def test_a_prompt_that_overflows_a_window_in_the_models_own_tokens_goes_to_another_model():
    async with Upstream(telling(1.5)).running() as upstream:
        async with proxy(upstream, routes=ROUTES, models=MODELS) as app:
            prompt = [{"role": "user", "content": "word " * 800}]
            for _ in range(3):
                await ask(app, "tight", [{"role": "user", "content": "word " * 100}])
            upstream.seen.clear()
            await ask(app, "windows", prompt)
            assert [body["model"] for body in upstream.seen] == ["up-large"]
            with pytest.raises(openai.BadRequestError) as refused:
                await ask(app, "tight", prompt)
            assert refused.value.code == "context_length_exceeded"


def facts(candidate, prompt):
    return Facts(models={"m": candidate}, prompt_tokens=prompt)


CARD = ModelCard("m", "p", "m", Price(1_000_000, 1_000_000), window_tokens=1_000)


@pytest.mark.parametrize(
    ("prompt", "factor", "fits"),
    [(700, 1.0, True), (600, 1.2, True), (750, 1.2, False), (900, 0.5, False)],
    ids=["as-counted", "still", "no-more", "a-small-usage-breaks-no-window"],
)
def test_a_window_is_kept_in_the_models_own_tokens(prompt, factor, fits):
    able, _ = sift(["m"], Route("r", ("m",)), facts(Candidate(CARD, token_factor=factor), prompt))
    assert bool(able) is fits


@pytest.mark.parametrize(("factor", "told"), [(1.0, 100), (1.256, 126), (0.5, 50)])
def test_a_trim_is_told_of_in_the_models_own_tokens(factor, told):
    assert Trimmed((), (), (), 0, 0, "", factor=factor).told(100) == told


def test_an_estimate_is_in_the_models_own_tokens():
    counter = Counter()
    counter.warm()
    messages = [{"role": "user", "content": "word " * 100}]
    made = {alias: Estimate(counter, Paces(), alias, 600, messages, most=10) for alias in ("known", "other")}
    counter.observe("known", 1_000, 1_500)
    assert made["known"].prompt() == round(1.5 * made["other"].prompt())
    assert made["known"].texts(["word " * 50]) == round(1.5 * made["other"].texts(["word " * 50]))


def test_a_limit_is_held_for_at_least_what_is_counted():
    counter = Counter()
    counter.observe("more", 1_000, 1_500)
    counter.observe("less", 1_000, 700)
    assert [counter.at_most_theirs(alias, 101) for alias in ("more", "less", "other")] == [152, 101, 101]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_twenty_noisy_reports_are_enough(seed, noise):
    chance, counter = random.Random(seed), Counter()
    factor = chance.uniform(0.6, 2.5)
    for _ in range(20):
        ours = chance.randint(50, 5_000)
        counter.observe("m", ours, round(ours * factor * (1 + noise * chance.uniform(-1, 1))))
    assert counter.factor("m") == pytest.approx(factor, rel=0.03)
