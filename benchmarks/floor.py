"""How often a certified floor holds, and what it saves: 200 random resplits of each pair of recorded models.

A third of the rows fits the scorer (and the doubts, where answers were recorded); the others are split 200 times
at random: one half certifies, on the other the floor is looked at. A floor that nothing is certified for holds.
"""

import pathlib
import random
import sys

HERE = pathlib.Path(__file__).resolve().parent
HARNESS = HERE.parent.parent / "shared" / "harness" / "routing"
RESPLITS = 200
KEEP, RISK = 0.98, 0.05


def main():
    if not HARNESS.exists():
        print(f"left out: the recorded outcomes are not beside the checkout ({HARNESS})")
        return
    sys.path[:0] = [str(HERE.parent), str(HARNESS)]
    import rdata  # noqa: PLC0415 - found only now

    from benchmarks.adapters import Router, suspicion  # noqa: PLC0415 - as above

    held = all_resplits = 0
    print(f"{'':10}{'cheap model':38}{'way':9}{'floor held':>11}{'certified':>11}{'saved':>8}")
    for name, pairs in rdata.P["pairs"].items():
        for weak, strong in pairs:
            rows = rdata.load(name, "dev", weak, strong) + rdata.load(name, "heldout", weak, strong)
            random.Random(1).shuffle(rows)
            fitted, rest = rows[: len(rows) // 3], rows[len(rows) // 3 :]
            router = Router(fitted)
            declared = [
                router(r["messages"], {**rdata.request(r), "tailrace": {"step": r["task"]}}) for r in rest
            ]
            ways = {"scorer": (declared, False)}
            if rest[0].get("vw"):
                doubts = suspicion(fitted)
                ways["cascade"] = ([doubts(r) for r in rest], True)
            for way, (scores, cascade) in ways.items():
                kept, certified, saved = resplit(rest, scores, cascade=cascade)
                held, all_resplits = held + kept, all_resplits + RESPLITS
                print(
                    f"{name:10}{weak:38}{way:9}{kept / RESPLITS:>11.1%}{certified / RESPLITS:>11.1%}{saved:>8.1%}",
                    flush=True,
                )
    print(f"over all: the floor held in {held / all_resplits:.2%} of {all_resplits} resplits")


def resplit(rows, scores, *, cascade):
    """(how often the floor held, how often a saving was certified, the mean saving on the other half)."""
    from policies.certify import Trial, certify  # noqa: PLC0415 - after the path is set

    trials = [Trial(s, r["qw"], r["qs"], r["cw"], r["cs"]) for s, r in zip(scores, rows, strict=True)]
    kept = certified = 0
    saved = 0.0
    for seed in range(RESPLITS):
        random.Random(seed).shuffle(trials)
        half = len(trials) // 2
        proof = certify(trials[:half], keep=KEEP, risk=RISK, cascade=cascade)
        others = trials[half:]
        best = sum(t.strong for t in others)
        up = [not proof.certified or t.score >= proof.threshold for t in others]
        quality = sum(t.strong if climbs else t.cheap for t, climbs in zip(others, up, strict=True))
        kept += quality >= KEEP * best - 1e-9
        certified += proof.certified
        if proof.certified:
            cost = sum(
                (t.strong_nanousd if climbs else 0.0) + (t.cheap_nanousd if cascade or not climbs else 0.0)
                for t, climbs in zip(others, up, strict=True)
            )
            saved += 1 - cost / sum(t.strong_nanousd for t in others)
    return kept, certified, saved / RESPLITS


if __name__ == "__main__":
    main()
