"""What `check` prints of a configuration: all that a request will meet, and what should make an operator look twice."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from policies import book
from policies.cards import ModelCard
from policies.recall import able
from policies.route import Route
from proxy.config.checks import is_loopback
from proxy.snapshot import Key, Provider, Snapshot
from schemas.compiled import compile_schema
from schemas.lint import lint

_PICO_PER_USD_PER_MILLION = 10**6
_NANO = 10**9
_SERVED_DIALECTS = frozenset({"openai"})


def render(snapshot: Snapshot) -> str:
    """The configuration as aligned tables, then its warnings. It holds no secret."""
    server = snapshot.server
    parts = [
        f"server   {server.host}:{server.port}, {_count(server.workers, 'worker')}",
        f"store    {_without_password(snapshot.store)}",
        "",
        *_table("providers", ("name", "dialect", "base url", "key"), _providers(snapshot)),
        *_table(
            "models",
            ("alias", "provider", "name", "window", "in $/M", "out $/M", "cached", "write", "price from"),
            [_model(card, snapshot.providers[card.provider]) for card in snapshot.models.values()],
        ),
        *_table("deployments", ("alias", "provider", "name", "weight"), list(_deployments(snapshot))),
        *_table(
            "routes",
            ("name", "ladder", "schema", "repair", "stream", "context", "limits"),
            [_route(route) for route in snapshot.routes.values()],
        ),
        *_table("schemas", ("name", "version"), list(_schemas(snapshot))),
        *_table(
            "keys",
            ("name", "routes", "budget", "per minute"),
            [_key(key) for key in snapshot.keys or ()],
        ),
    ]
    found = list(warnings(snapshot))
    parts += ["warnings", *(f"  {w}" for w in found)] if found else ["no warnings"]
    return "\n".join(parts)


def warnings(snapshot: Snapshot) -> Iterator[str]:
    """What is allowed and probably not what an operator wants."""
    if snapshot.keys is None:
        yield "no keys: whoever reaches this address may use the proxy and the providers' keys behind it"
    for provider in snapshot.providers.values():
        url = urlsplit(provider.base_url)
        sends_secret = provider.api_key is not None or provider.headers
        if url.scheme == "http" and sends_secret and not is_loopback(url.hostname or ""):
            yield f"provider {provider.name}: its key travels unencrypted over http"
        if provider.dialect not in _SERVED_DIALECTS:
            yield f"provider {provider.name}: this version cannot call the dialect {provider.dialect} yet"
    for card in snapshot.models.values():
        for place in card.deployments:
            known = book.card(snapshot.providers[place.card.provider].base_url, place.card.name or "")
            if known is not None and known.price != card.price:
                yield f"model {card.alias}: {place.card.deployment} costs otherwise by the price book; all are billed alike"
        if card.price is None and card.name is not None:
            yield f"model {card.alias}: unpriced; its cost is unknown and no budget can count it"
    yield from _schema_warnings(snapshot)
    for name, route in snapshot.routes.items():
        if name in snapshot.models:
            yield f"route {name}: hides the model of this name; clients reach that one as provider/name only"
        yield from _route_warnings(snapshot, route)
    if "default" not in snapshot.routes:
        yield "no default route: a request has to name a route or a model alias"


def _schema_warnings(snapshot: Snapshot) -> Iterator[str]:
    """What is odd about a schema, and what the providers that are asked for it will not enforce themselves."""
    from proxy.upstreams.openai import family_of  # noqa: PLC0415  brings the network's modules
    from proxy.upstreams.transport import Target  # noqa: PLC0415

    for name, schema in snapshot.schemas.items():
        asked = [
            alias for route in snapshot.routes.values() if route.schema == name for alias in route.ladder
        ]
        cards = [c for a in asked if (c := snapshot.card_for(a)) is not None]
        providers = {c.provider for c in cards} | {d.card.provider for c in cards for d in c.deployments}
        families = {family_of(Target.parse(snapshot.providers[p].base_url).host) for p in providers}
        for finding in lint(compile_schema(schema), sorted(families)):
            problem = finding.problem
            yield f"schema {name}: {finding.severity} at {problem.pointer or '/'}: {problem.message}"


def _route_warnings(snapshot: Snapshot, route: Route) -> Iterator[str]:
    budget = route.context.budget_tokens
    for alias in dict.fromkeys(route.ladder):
        card = snapshot.card_for(alias)
        if card and card.window_tokens and budget and budget > card.window_tokens:
            yield f"route {route.name}: {alias} takes {card.window_tokens} tokens, less than context.budget_tokens"
        if card and card.price is None and route.limits.cost_nanousd is not None:
            yield f"route {route.name}: limits.cost_usd cannot count {alias}, which is unpriced"
        if card and route.context.recall_tool and not able(card):
            yield f"route {route.name}: {alias} is not known to take tools: it is not offered context.recall_tool"
    if len(set(route.ladder)) < len(route.ladder):
        yield f"route {route.name}: a model stands twice in its ladder"
    floor = route.floor
    if floor is not None and route.choose == "learned":
        if not floor.plans:
            yield f"route {route.name}: no saving is certified for its floor: everything goes to {floor.of}"
        elif not any(plan.expected for plan in floor.plans.values()):
            yield f"route {route.name}: its calibration does not say what to expect: nobody will notice when answers get worse"


def _providers(snapshot: Snapshot) -> list[tuple[str, ...]]:
    return [
        (p.name, p.dialect, p.base_url, f"in {p.api_key_header}" if p.api_key is not None else "none")
        for p in snapshot.providers.values()
    ]


def _model(card: ModelCard, provider: Provider) -> tuple[str, ...]:
    window = str(card.window_tokens or "?")
    if card.name is None and card.price is None:
        return (card.alias, card.provider, "(as asked)", window, *[""] * 4, "by the asked name")
    if card.price is None:
        return (card.alias, card.provider, card.name or "", window, *[""] * 4, "UNPRICED")
    price = card.price
    shown = [_usd_per_million(p) for p in (price.input, price.output, price.cached_input, price.cache_write)]
    return (
        card.alias,
        card.provider,
        card.name or "(as asked)",
        window,
        *shown,
        _price_source(card, provider),
    )


def _deployments(snapshot: Snapshot) -> Iterator[tuple[str, ...]]:
    for card in snapshot.models.values():
        for place in card.deployments:
            yield card.alias, place.card.provider, place.card.name or "", f"{place.weight:g}"


def _price_source(card: ModelCard, provider: Provider) -> str:
    known = book.card(provider.base_url, card.name or "")
    if known is None or known.price != card.price:
        return "configuration"
    return f"book {known.checked}" + (f", as {known.provider} sells it" if known.assumed else "")


def _route(route: Route) -> tuple[str, ...]:
    repair, limits, context = route.repair, route.limits, route.context
    steps = [f"reask {repair.reask}", *(["escalate"] if repair.escalate else []), f"else {repair.give_up}"]
    bounds = [_count(limits.attempts, "attempt")]
    if limits.cost_nanousd is not None:
        bounds.append(f"{_decimal(limits.cost_nanousd, _NANO)} USD")
    if limits.deadline_s is not None:
        bounds.append(f"{limits.deadline_s:g} s")
    budget = f" {context.budget_tokens}" if context.budget_tokens else ""
    return (
        route.name,
        " > ".join(route.ladder),
        route.schema or "-",
        ", ".join(steps),
        route.stream,
        context.policy + budget + (" recall" if context.recall_tool else ""),
        ", ".join(bounds),
    )


def _schemas(snapshot: Snapshot) -> Iterator[tuple[str, ...]]:
    if snapshot.schemas:
        from schemas.compiled import compile_schema  # noqa: PLC0415  # 40 ms, only where there are schemas

        for name, schema in snapshot.schemas.items():
            yield (name, compile_schema(schema).version)


def _key(key: Key) -> tuple[str, ...]:
    routes = "all" if key.routes is None else ", ".join(sorted(key.routes))
    budget = f"{_decimal(key.budget.nanousd, _NANO)} USD per {key.budget.per}" if key.budget else "none"
    rates = [f"{key.rpm} requests"] if key.rpm else []
    rates += [f"{key.tpm} tokens"] if key.tpm else []
    return (key.name + (" (admin)" if key.admin else ""), routes, budget, ", ".join(rates) or "no limit")


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """`rows` under `head`, columns aligned, nothing where there are no rows."""
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    return [title, *(f"  {line}" for line in lines), ""]


def _usd_per_million(pico: int | None) -> str:
    return "as input" if pico is None else _decimal(pico, _PICO_PER_USD_PER_MILLION)


def _decimal(amount: int, unit: int) -> str:
    """`amount` / `unit` exactly; `unit` is a power of ten."""
    whole, rest = divmod(amount, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _without_password(url: str) -> str:
    """The address of a store without who logs in and how."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if found else url
