"""Metrics of one app: a registry of its own, children looked up once, labels that a client cannot invent.

Label values come from the configuration: route, model alias and provider names, purposes, verdicts and
statuses. A model that matched a pattern is counted under the pattern.
"""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from policies.chat import Usage
from policies.ladder import Attempt

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Telemetry:
    """What an app counts. `render` is the text for `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tailrace_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"tailrace_{name}", text, labels, registry=self.registry, buckets=SECONDS)

        self.requests = counter(
            "requests_total", "Client requests by route and HTTP status.", "route", "status"
        )
        self.attempts = counter(
            "attempts_total", "Upstream calls by purpose and result.", "route", "model", "purpose", "result"
        )
        self.tokens = counter("tokens_total", "Tokens of upstream calls by kind.", "model", "kind")
        self.cost = counter(
            "cost_usd_total", "Cost of upstream calls in US dollars.", "route", "model", "purpose"
        )
        self.unpriced = counter(
            "unpriced_attempts_total", "Upstream calls of models without a price.", "model"
        )
        self.verdicts = counter("verdicts_total", "Verdicts on replies.", "route", "model", "verdict")
        self.repairs = counter("repairs_total", "Changes that mended a reply, by operation.", "operation")
        self.latency = histogram("request_seconds", "From a request's head to its answer's end.", "route")
        self.upstream = histogram("attempt_seconds", "Duration of upstream calls.", "model")
        self.first_byte = histogram("first_byte_seconds", "From an upstream call to its first byte.", "model")
        self.in_flight = Gauge("tailrace_requests_in_flight", "Requests in work now.", registry=self.registry)

    def child(self, metric: Any, *labels: str) -> Any:
        """The child of `metric` for these label values, looked up once."""
        key = (metric, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found

    def request_ended(self, route: str, status: int, seconds: float) -> None:
        """One client request has been answered (499: its client left)."""
        self.child(self.requests, route, str(status)).inc()
        self.child(self.latency, route).observe(seconds)

    def attempt_ended(self, route: str, model: str, attempt: Attempt) -> None:
        """One upstream call has ended, and its cost is known if it can be."""
        failure = attempt.failure
        self.child(self.attempts, route, model, attempt.purpose, failure.kind if failure else "ok").inc()
        if attempt.usage is not None:
            self._count_tokens(model, attempt.usage)
            if attempt.cost_nanousd is None:
                self.child(self.unpriced, model).inc()
            else:
                self.child(self.cost, route, model, attempt.purpose).inc(attempt.cost_nanousd / 1e9)
        if failure is None:
            self.child(self.verdicts, route, model, attempt.verdict.kind).inc()
            for change in attempt.verdict.changes:
                self.child(self.repairs, change.operation).inc()
        self.child(self.upstream, model).observe(attempt.ended_s - attempt.started_s)
        if attempt.first_byte_s is not None:
            self.child(self.first_byte, model).observe(attempt.first_byte_s - attempt.started_s)

    def _count_tokens(self, model: str, usage: Usage) -> None:
        self.child(self.tokens, model, "input").inc(usage.input_tokens)
        self.child(self.tokens, model, "output").inc(usage.output_tokens)
        if usage.cached_tokens:
            self.child(self.tokens, model, "cached_input").inc(usage.cached_tokens)
        if usage.cache_write_tokens:
            self.child(self.tokens, model, "cache_write").inc(usage.cache_write_tokens)
        if usage.reasoning_tokens:
            self.child(self.tokens, model, "reasoning").inc(usage.reasoning_tokens)

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
