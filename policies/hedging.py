"""When an order that has not begun to be answered is given to a second deployment as well.

Waiting for the slowest of a hundred calls is what makes a tail; asking twice where the first is later than 95 of
100 costs a twentieth more calls and cuts it (Dean and Barroso, "The Tail at Scale", 2013).
"""

import math
from collections.abc import Sequence

from policies.route import Hedge

SHARE = 0.95
ENOUGH = 20
"""So many calls must have been seen before their 95th percentile means anything."""


def hedged_after_s(rule: Hedge, seen_s: Sequence[float]) -> float | None:
    """Seconds without a beginning of the answer after which a second call is made; None: not yet known.

    `seen_s` is how long the model's last calls took to begin, those that were given up at least as long as they lasted.
    """
    if rule.after_s is not None:
        return rule.after_s
    if len(seen_s) < ENOUGH:
        return None
    return sorted(seen_s)[math.ceil(SHARE * len(seen_s)) - 1]
