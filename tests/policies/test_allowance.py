"""Attempts, money and time are one allowance; what is used up is named by its setting."""

from policies.allowance import Allowance, spent_up


def test_nothing_is_spent_up_at_first():
    assert not spent_up(Allowance(attempts=1, cost_nanousd=1, deadline_s=1.0), 0, 0, 0.0)


def test_each_limit_is_named():
    assert "limits.attempts" in spent_up(Allowance(attempts=2), 2, 0, 0.0)
    assert "limits.cost_usd" in spent_up(Allowance(cost_nanousd=5), 1, 5, 0.0)
    assert "limits.deadline_s" in spent_up(Allowance(deadline_s=3.0), 1, 0, 3.0)
