"""Every metric there is, by name; docs/metrics.md describes each.

The `gen_ai_*` families are those of OpenTelemetry's semantic conventions for generative AI (development status, read
2026-11), written as Prometheus does. `token_usage` and `duration` bear the names of the versions before September 2026,
which dashboards still ask for; the `inference_*` counters are their successors.
"""

from collections.abc import Iterator, Sequence

from proxy.series import Counter, Family, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30)
# The boundaries that the conventions name.
GEN_AI_SECONDS = tuple(0.01 * 2**n for n in range(14))
GEN_AI_TOKENS = tuple(4**n for n in range(14))

NANO = 10**9
_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_BUDGET = ("scope", "name", "per")


class Families:
    """The families of one app."""

    def __init__(self) -> None:
        self.requests = Counter(
            "tailrace_requests_total", "Client requests by route and HTTP status.", ("route", "status")
        )
        self.in_flight = Gauge("tailrace_requests_in_flight", "Requests in work now.")
        self.seconds = Histogram(
            "tailrace_request_seconds", "From a request's head to its answer's end.", ("route",), SECONDS
        )
        self.overhead = Histogram(
            "tailrace_overhead_seconds",
            "A request's time less the time it waited for upstreams.",
            ("route",),
            OVERHEAD_SECONDS,
        )
        self.first_token = Histogram(
            "tailrace_first_token_seconds",
            "From a streamed request's head to the first piece of its answer.",
            ("route",),
            SECONDS,
        )
        self.answers = Counter(
            "tailrace_answers_total", "Exchanges by what their schema came to.", ("route", "model", "schema")
        )
        self.attempts = Counter(
            "tailrace_attempts_total",
            "Upstream calls by purpose and result.",
            ("route", "model", "purpose", "result"),
        )
        self.attempt_seconds = Histogram(
            "tailrace_attempt_seconds", "Duration of upstream calls.", ("model",), SECONDS
        )
        self.first_byte = Histogram(
            "tailrace_first_byte_seconds", "From an upstream call to its first byte.", ("model",), SECONDS
        )
        self.tokens = Counter("tailrace_tokens_total", "Tokens of upstream calls by kind.", ("model", "kind"))
        self.cost = _money(
            "tailrace_cost_usd_total", "Cost of upstream calls.", ("route", "model", "purpose")
        )
        self.saved = _money("tailrace_saved_usd_total", "What exchanges saved, by lever.", ("route", "lever"))
        self.lost = _money("tailrace_lost_usd_total", "What exchanges lost, by lever.", ("route", "lever"))
        self.unpriced = Counter(
            "tailrace_unpriced_attempts_total", "Upstream calls of models without a price.", ("model",)
        )
        self.verdicts = Counter(
            "tailrace_verdicts_total", "Verdicts on replies.", ("route", "model", "verdict")
        )
        self.repairs = Counter(
            "tailrace_repairs_total", "Changes that mended a reply.", ("model", "operation")
        )
        self.context = Counter(
            "tailrace_context_tokens_total",
            "Tokens of conversations before and after trimming.",
            ("route", "side"),
        )
        self.breakers = Gauge(
            "tailrace_breaker_state", "Breakers that are in this state.", ("model", "state")
        )
        self.deployments = Counter(
            "tailrace_deployment_attempts_total",
            "Upstream calls to models with several deployments.",
            ("model", "deployment", "result"),
        )
        self.deployment_breakers = Gauge(
            "tailrace_deployment_breaker_state",
            "Breakers of deployments that are in this state.",
            ("model", "deployment", "state"),
        )
        self.cache_hits = Counter(
            "tailrace_cache_hits_total", "Requests answered from the route's own cache.", ("route",)
        )
        self.limits = Gauge(
            "tailrace_budget_limit_usd", "What a budget allows in its period.", _BUDGET, highest=True
        )
        self.spent = Gauge(
            "tailrace_budget_spent_usd", "What was spent of a budget in its period.", _BUDGET, highest=True
        )
        self.resets = Gauge(
            "tailrace_budget_reset_timestamp_seconds", "When a budget's period ends.", _BUDGET, highest=True
        )
        self.drifted = Gauge(
            "tailrace_drifted_steps",
            "Steps whose outcomes are worse than calibrated.",
            ("route",),
            highest=True,
        )
        self.token_usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of each operation.",
            (*_GEN_AI, "gen_ai_token_type"),
            GEN_AI_TOKENS,
        )
        self.duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Duration of operations.",
            (*_GEN_AI, "error_type"),
            GEN_AI_SECONDS,
        )
        self.inference_input = _inference("input", "Tokens of prompts, cached ones included.")
        self.inference_output = _inference("output", "Tokens of answers, reasoning included.")
        self.inference_cache_read = _inference("cache_read_input", "Prompt tokens read from a cache.")
        self.inference_cache_write = _inference("cache_write_input", "Prompt tokens written to a cache.")
        self.inference_reasoning = _inference("reasoning_output", "Tokens of reasoning.")

    def __iter__(self) -> Iterator[Family]:
        return iter(vars(self).values())


def _money(name: str, text: str, labels: Sequence[str]) -> Counter:
    return Counter(name, f"{text} In US dollars.", labels, unit=NANO)


def _inference(kind: str, text: str) -> Counter:
    return Counter(
        f"gen_ai_client_inference_usage_{kind}_tokens_total", text, (*_GEN_AI, "gen_ai_token_modality")
    )
