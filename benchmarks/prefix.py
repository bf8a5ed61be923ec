"""How well the prefix checker does on the valid documents of the repair corpus, and on broken ones.

    .venv/bin/python benchmarks/prefix.py [--rounds 3] [--seed 1]

False refusals must be 0. "Early" is before the last character, "at all" includes the last one.
"""

import argparse
import collections
import copy
import gzip
import json
import pathlib
import random
import time

from schemas.compiled import Compiled, compile_schema
from schemas.errors import SchemaRefused
from schemas.viable import PrefixChecker

SHARED = pathlib.Path(__file__).parents[1].parent / "shared"
CORPUS = SHARED / "harness" / "repair" / "corpus.dev.jsonl.gz"


def valid_documents():
    """Each schema of the corpus with its valid values, and the invalid ones that came with it."""
    schemas, valid, invalid = {}, collections.defaultdict(list), collections.defaultdict(list)
    with gzip.open(CORPUS, "rt") as lines:
        for line in lines:
            case = json.loads(line)
            if case["source"] != "maskbench":
                continue
            key = json.dumps(case["schema"], sort_keys=True)
            if key not in schemas:
                try:
                    schemas[key] = compile_schema(case["schema"])
                except SchemaRefused:
                    continue
            if not case["expect_fail"]:
                valid[key].append(case["expected"])
            elif case["kind"] == "schema-violation":
                try:
                    value = json.loads(case["input"])
                except ValueError:
                    continue
                if not schemas[key].is_valid(value):
                    invalid[key].append(value)
    return [(schemas[key], valid[key], invalid[key]) for key in schemas]


def shuffled(value, dice):
    """The same value with the names of each object in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(held, dice)) for key, held in value.items()]
        dice.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(part, dice) for part in value]
    return value


def written(value, dice):
    """`value` as JSON in one of the ways that JSON may be written."""
    ascii_only = dice.random() < 0.5
    indent = dice.choice([None, None, 1, 2, "\t"])
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    return dice.choice(["", "", "\n", " \r\n\t"]) + text + dice.choice(["", "", "\n", "  "])


def pieces(text, dice):
    """`text` cut anywhere."""
    longest = dice.choice([1, 3, 8, 40, 10_000])
    at = 0
    while at < len(text):
        size = dice.randint(1, longest)
        yield text[at : at + size]
        at += size


def places(value, path=()):
    """Each container in `value` with its path."""
    if isinstance(value, dict | list):
        yield path, value
        for key, held in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(held, (*path, key))


def mutated(value, dice):
    """A copy with one thing changed, and what was changed."""
    value = copy.deepcopy(value)
    containers = [held for _, held in places(value) if held]
    if not containers:
        return dice.choice([None, 3, "x", [], {}]), "type"
    held = dice.choice(containers)
    key = dice.choice(list(held) if isinstance(held, dict) else range(len(held)))
    kind = dice.choice(["type", "missing", "extra", "enum", "number"])
    if kind == "type":
        held[key] = dice.choice([None, True, 3, "x", [], {}, [1], {"a": 1}])
    elif kind == "missing":
        del held[key]
    elif kind == "extra" and isinstance(held, dict):
        held["unexpected key"] = dice.choice([1, "x", None])
    elif kind == "enum" and isinstance(held[key], str):
        held[key] += dice.choice(["x", "?", " and more"])
    elif kind == "number" and isinstance(held[key], int | float):
        held[key] = dice.choice([-1, 0.5, 1e9, -(10**9)])
    return value, kind


def refused_at(checker, text, dice):
    """How many characters were read when the checker refused, None when it never did."""
    read = 0
    for piece in pieces(text, dice):
        read += len(piece)
        if not checker.feed(piece):
            return read
    return None


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    dice = random.Random(options.seed)
    documents = valid_documents()
    counts = collections.Counter()
    kinds = collections.Counter()
    for compiled, valid, invalid in documents:
        for value in valid:
            for _ in range(options.rounds):
                text = written(shuffled(value, dice), dice)
                counts["valid"] += 1
                checker = PrefixChecker(compiled)
                if refused_at(checker, text, dice) is not None or not checker.complete:
                    counts["falsely refused"] += 1
                    print("FALSE REFUSAL", text[:200], compiled.examined.text[:300])
            for _ in range(options.rounds):
                broken, kind = mutated(value, dice)
                judge(compiled, broken, kind, dice=dice, counts=counts, kinds=kinds)
        for value in invalid:
            judge(compiled, value, "as it came", dice=dice, counts=counts, kinds=kinds)
    print(dict(counts))
    bad = counts["invalid"] or 1
    print(f"found at all {counts['at all'] / bad:.2%}, before the last character {counts['early'] / bad:.2%}")
    for kind in sorted({kind for kind, _ in kinds}):
        total = kinds[kind, "invalid"]
        print(
            f"  {kind:12} {total:5}  early {kinds[kind, 'early'] / total:.1%}  at the end {kinds[kind, 'at the end']}"
            f"  of these: the outermost object lacks a name {kinds[kind, 'lacks']}"
        )
    speed(documents)


def judge(compiled: Compiled, value, kind, *, dice, counts, kinds):
    if compiled.is_valid(value):
        return
    counts["invalid"] += 1
    kinds[kind, "invalid"] += 1
    text = json.dumps(shuffled(value, dice))
    checker = PrefixChecker(compiled)
    read = 0
    for char in text:
        read += 1
        if not checker.feed(char):
            break
    if checker.viable:
        counts["missed"] += 1
        return
    counts["at all"] += 1
    if read < len(text):
        counts["early"] += 1
        kinds[kind, "early"] += 1
    else:
        kinds[kind, "at the end"] += 1
        problems = compiled.problems(value)
        lacking = all(p.keyword == "required" and p.pointer == "" for p in problems)
        kinds[kind, "lacks"] += lacking
        counts["early possible"] += not lacking


def speed(documents):
    texts = [(compiled, json.dumps(value)) for compiled, valid, _ in documents for value in valid]
    chars = sum(len(text) for _, text in texts)
    for size in (1, 4, 16, 64, 100_000):
        start = time.process_time()
        for compiled, text in texts:
            checker = PrefixChecker(compiled)
            for at in range(0, len(text), size):
                checker.feed(text[at : at + size])
        spent = time.process_time() - start
        print(f"pieces of {size:6} characters: {spent / chars * 1e9:6.0f} ns per character")
    start = time.process_time()
    for compiled, text in texts:
        PrefixChecker(compile_schema(compiled.schema)).feed(text)
    print(
        f"compiling each time as well: {(time.process_time() - start) / len(texts) * 1e6:.0f} us per document"
    )


if __name__ == "__main__":
    main()
