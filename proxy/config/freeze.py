"""The typed configuration as the frozen values that the proxy works with."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from policies.cards import Deployment, ModelCard, Price
from policies.route import (
    Budget,
    Cache,
    ContextRule,
    Floor,
    Hedge,
    Limits,
    Match,
    Repair,
    Route,
    SummaryRule,
    When,
)
from proxy.config.calibrations import Calibration
from proxy.config.checks import Findings, digest
from proxy.config.models import ConfigModel, DeploymentModel, KeyModel, ModelModel, PriceModel, ProviderModel
from proxy.config.routes import BudgetModel, ContextModel, FloorModel, HedgeModel, MatchModel, RouteModel
from proxy.snapshot import Key, Provider, Server, Snapshot, Timeouts, completed


def freeze(
    config: ConfigModel,
    schemas: dict[str, Any],
    calibrations: Mapping[str, Calibration] = MappingProxyType({}),
) -> Snapshot:
    """The snapshot of a configuration that passed every check; `schemas` are its schemas, parsed.

    `calibrations` are what its routes may do by their logs.
    """
    given = config.server.model_dump()
    server: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    providers = {name: _provider(name, p) for name, p in config.providers.items()}
    models = {alias: _model(alias, m, providers) for alias, m in config.models.items()}
    return Snapshot(
        server=Server(**server),
        store=config.store,
        providers=MappingProxyType(providers),
        models=MappingProxyType(models),
        schemas=MappingProxyType(schemas),
        routes=MappingProxyType(_routes(config, calibrations)),
        keys=None if config.keys is None else tuple(_key(k) for k in config.keys),
    )


def check_budgets(snapshot: Snapshot, found: Findings) -> None:
    """Refuse a context budget that no model of its ladder can take."""
    for name, route in snapshot.routes.items():
        cards = [snapshot.card_for(alias) for alias in route.ladder]
        windows = [card.window_tokens for card in cards if card]
        budget = route.context.budget_tokens
        known = [w for w in windows if w is not None]
        if budget is not None and len(known) == len(windows) and budget > max(known):
            found.refuse(
                ("routes", name, "context", "budget_tokens"),
                "more than any model of the ladder takes",
                value=str(budget),
                expected=f"at most {max(known)}",
            )


def _provider(name: str, given: ProviderModel) -> Provider:
    return Provider(
        name=name,
        base_url=given.base_url,
        dialect=given.dialect,
        api_key=given.api_key,
        api_key_header=given.api_key_header.lower(),
        headers=MappingProxyType(dict(given.headers)),
        query=MappingProxyType(dict(given.query)),
        timeouts=Timeouts(**given.timeouts.model_dump()),
        retries=given.retries,
        stream_usage=given.stream_usage,
        cache_control=given.cache_control,
        trust_env=given.trust_env,
    )


def _model(alias: str, given: ModelModel, providers: Mapping[str, Provider]) -> ModelCard:
    """The card of a model; of one with several deployments that of the first, which has the others in it."""
    places = given.deployments or [DeploymentModel(provider=given.provider or "")]
    cards = [_card(alias, given, place.provider, place.name or given.name) for place in places]
    card = cards[0]
    for place in cards:  # prices and windows are one: those of the first place where the book knows them
        known = completed(place, providers[place.provider])
        card = replace(known, provider=card.provider, name=card.name)
        if card.price is not None:
            break
    if given.deployments is None:
        return card
    there = [
        replace(card, provider=p.provider, name=p.name, deployment=f"{p.provider}/{p.name}") for p in cards
    ]
    weights = [place.weight for place in places]
    return replace(card, deployments=tuple(map(Deployment, there, weights)))


def _card(alias: str, given: ModelModel, provider: str, name: str | None) -> ModelCard:
    return ModelCard(
        alias=alias,
        provider=provider,
        name=None if alias.endswith("*") else name or alias,
        price=_price(given.price),
        window_tokens=given.window_tokens,
        max_output_tokens=given.max_output_tokens,
        can=None if given.can is None else frozenset(given.can),
        breaker=not alias.endswith("*") if given.breaker is None else given.breaker,
        tags=frozenset(given.tags),
    )


def _price(given: PriceModel | None) -> Price | None:
    return None if given is None else Price(**given.model_dump())


def _routes(config: ConfigModel, calibrations: Mapping[str, Calibration]) -> dict[str, Route]:
    """The routes, and a `default` where none is configured and one model alone could serve it."""
    none = Calibration()
    routes = {name: _route(name, r, calibrations.get(name, none)) for name, r in config.routes.items()}
    named = [alias for alias in config.models if not alias.endswith("*")]
    if "default" not in routes and len(named) == 1:
        routes["default"] = Route("default", (named[0],))
    return routes


def _route(name: str, given: RouteModel, calibration: Calibration) -> Route:
    return Route(
        name=name,
        ladder=tuple(given.ladder),
        schema=given.schema_,
        repair=Repair(
            accept=frozenset(given.repair.accept),
            reask=given.repair.reask,
            patch=given.repair.patch,
            escalate=given.repair.escalate,
            give_up=given.repair.give_up,
        ),
        structured=given.structured,
        tools=given.tools,
        stream=given.stream,
        context=_context(given.context),
        limits=Limits(given.limits.attempts, given.limits.cost_usd, given.limits.deadline_s),
        hedge=None if given.hedge is None else _hedge(given.hedge),
        cache=None if given.cache is None else Cache(given.cache.ttl_s, given.cache.max_mb),
        budget=_budget(given.budget),
        run_budget=_budget(given.run_budget),
        passthrough=given.passthrough,
        choose=given.choose,
        match=tuple(_match(rule) for rule in given.match),
        require=frozenset(given.require),
        floor=None if given.floor is None else _floor(given.floor, calibration),
        agree=tuple(given.agree or ()),
        sticky=given.sticky,
        shadow=given.shadow,
        holdout=given.holdout,
        log_prompts=given.log_prompts,
    )


def _floor(given: FloorModel, calibration: Calibration) -> Floor:
    return Floor(
        given.of,
        given.keep,
        given.risk,
        calibration.plans,
        calibration.scorer,
        calibration.doubter,
        calibration.digest,
    )


def _context(given: ContextModel) -> ContextRule:
    summary = given.summary
    return ContextRule(
        policy=given.policy,
        budget_tokens=given.budget_tokens,
        keep_s=given.keep_s,
        mask_results_after=given.mask_results_after,
        summary=None if summary is None else SummaryRule(summary.model, summary.max_tokens),
        recall_tool=given.recall_tool,
    )


def _hedge(given: HedgeModel) -> Hedge:
    return Hedge(None if given.after_ms is None else given.after_ms / 1000)


def _match(given: MatchModel) -> Match:
    when = given.when
    return Match(
        when=When(
            step=when.step,
            tool=when.tool,
            schema=when.schema_,
            system=when.system,
            fingerprint=when.fingerprint,
        ),
        step=given.step,
        ladder=tuple(given.ladder or ()),
    )


def _budget(given: BudgetModel | None) -> Budget | None:
    return None if given is None else Budget(given.usd, given.per)


def _key(given: KeyModel) -> Key:
    return Key(
        name=given.name,
        digest=digest(given.key),
        routes=None if given.routes is None else frozenset(given.routes),
        admin=given.admin,
        budget=_budget(given.budget),
        rpm=given.rpm,
        tpm=given.tpm,
    )
