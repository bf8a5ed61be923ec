"""Families of cells: what is counted is shown as prometheus_client shows it, and workers add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Theirs

from proxy.series import MAX_CELLS, Counter, Gauge, Histogram
from proxy.shared_series import Share

BOUNDS = (0.1, 1, 10)


def samples(family, others=()):
    shown = family.shown(family.told_with(others))
    return {(s.name, tuple(s.labels.values())): s.value for s in shown.samples}


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 1, 3, 10, 11, 1e9]), max_size=30))
def test_a_histogram_is_what_prometheus_client_makes_of_it(values):
    theirs = Theirs("x", "x", registry=CollectorRegistry(), buckets=BOUNDS)
    ours = Histogram("x", "x", (), BOUNDS)
    ours.cell()
    for value in values:
        theirs.observe(value)
        ours.cell().observe(value)
    wanted = {
        (s.name, tuple(s.labels.values())): s.value
        for metric in theirs.collect()
        for s in metric.samples
        if not s.name.endswith("_created")
    }
    assert {(n, tuple(f"{float(v)}" for v in k)): x for (n, k), x in samples(ours).items()} == {
        (n, tuple(f"{float(v)}" for v in k)): x for (n, k), x in wanted.items()
    }


def test_money_is_exact_until_it_is_shown():
    cost = Counter("usd_total", "x", (), unit=10**9)
    for _ in range(10):
        cost.cell().value += 100_000_000_000_000_001
    assert cost.cell().value == 1_000_000_000_000_000_010
    assert samples(cost) == {("usd_total", ()): 1_000_000_000.00000001}


def test_labels_of_any_text_come_back_as_they_were():
    family = Counter("x_total", "x", ("a", "b"))
    family.cell("", 'q"\\\n').value += 1
    assert samples(family) == {("x_total", ("", 'q"\\\n')): 1}


def test_a_family_holds_a_bounded_number_of_cells():
    family = Counter("x_total", "x", ("a", "b"))
    for n in range(MAX_CELLS + 500):
        family.cell(str(n), "b").value += 1
    assert len(family.cells) == MAX_CELLS + 1
    assert family.cells["other", "other"].value == 500


FAMILIES = {
    "counters-add-up": (Counter("x_total", "x"), 5),
    "gauges-add-up": (Gauge("x", "x"), 5),
    "what-all-know-is-told-once": (Gauge("x", "x", highest=True), 3),
}


@pytest.mark.parametrize(("family", "sum_"), FAMILIES.values(), ids=FAMILIES)
def test_workers_are_summed(family, sum_):
    family.cell().value = 2
    assert list(samples(family, [{"": 3}]).values()) == [sum_]


def test_histograms_of_workers_add_up_bucket_by_bucket():
    one, other = Histogram("x", "x", (), BOUNDS), Histogram("x", "x", (), BOUNDS)
    for family, value in ((one, 0.5), (one, 50), (other, 0.5)):
        family.cell().observe(value)
    got = samples(one, [other.told_with([])])
    assert (got["x_count", ()], got["x_sum", ()], got["x_bucket", ("1",)]) == (3, 51, 2)


def families():
    return [Counter("x_total", "x", ("a",)), Gauge("y", "y"), Histogram("z", "z", (), BOUNDS)]


def test_a_worker_in_the_place_of_a_dead_one_goes_on_from_its_counters_not_its_gauges(tmp_path):
    dead = families()
    dead[0].cell("r").value = 7
    dead[1].cell().value = 3
    dead[2].cell().observe(0.5)
    Share(tmp_path, 0).write(dead)
    for living in (families(), families()):  # the second one takes the place of the first
        share = Share(tmp_path, 0)
        share.resume(living)
        living[0].cell("r").value += 1
        share.write(living)
    told = Share(tmp_path, 1).others()[-1]
    assert told == {"x_total": {"r": 9}, "y": {}, "z": {"": [0.5, 0, 1, 0, 0]}}


def test_a_file_that_is_not_there_or_broken_counts_as_nothing(tmp_path):
    (tmp_path / "1.json").write_text("{")
    assert Share(tmp_path, 0).others() == [{}, {}]
