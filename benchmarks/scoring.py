"""What a decision by content costs: the scorer and the doubter on prompts of 4k characters and of 100k tokens."""

import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from policies.features import features
from policies.fitting import Sample, fit, fit_doubter
from policies.scorer import score
from policies.suspicion import Signals, learned_doubt
from policies.weights import dump, load

WORDS = (pathlib.Path(__file__).resolve().parent.parent / "docs" / "operations.md").read_text().split()
LOG = "0" * 64


def prompt(dice, chars):
    words = []
    while sum(map(len, words)) + len(words) < chars:
        words += dice.choices(WORDS, k=200)
    return [{"role": "user", "content": " ".join(words)[:chars]}]


def main():
    dice = random.Random(1)
    samples = []
    for _ in range(1500):
        messages = prompt(dice, dice.choice((300, 1000, 4000)))
        cheap = float(dice.random() < 0.7)
        samples.append(Sample(messages, None, dice.choice(("read", "sort", None)), cheap, 1.0, 10, 200))
    began = time.perf_counter()
    scorer = fit(samples)
    print(f"{'fit on 1500 requests':44}{time.perf_counter() - began:>9.2f} s")
    raw = dump(scorer, LOG)
    began = time.perf_counter()
    scorer = load(raw, LOG)
    print(
        f"{f'load its weights, {len(raw) / 1024:.0f} KiB':44}{(time.perf_counter() - began) * 1e3:>9.1f} ms"
    )
    seen = [(Signals(chars=dice.randint(1, 999)), features(s.messages)) for s in samples[:300]]
    doubter = fit_doubter(seen, [1.0 - s.cheap for s in samples[:300]])
    for name, chars in (("4k characters", 4000), ("100k tokens (500k characters)", 500_000)):
        prompts = [prompt(dice, chars) for _ in range(20)]
        print(f"{'score, ' + name:44}{us(prompts, lambda m: score(scorer, m, None, 'read')):>9.0f} us")
        print(f"{'features and doubt, ' + name:44}{us(prompts, lambda m: doubted(doubter, m)):>9.0f} us")


def doubted(doubter, messages):
    return learned_doubt(doubter, Signals(chars=400), features(messages))


def us(prompts, decide):
    """The median over prompts of the best of 15 runs: what the work itself takes."""
    found = []
    for messages in prompts:
        runs = []
        for _ in range(15):
            began = time.perf_counter()
            decide(messages)
            runs.append(time.perf_counter() - began)
        found.append(min(runs) * 1e6)
    return sorted(found)[len(found) // 2]


if __name__ == "__main__":
    main()
