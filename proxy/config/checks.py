"""What types cannot say: names that must exist, values that must differ, fields that exclude each other.

All checks read the plain values of the file, so that a fault in one field hides no fault in another.
"""

import hashlib
import ipaddress
import re
from collections.abc import Collection, Iterator
from typing import Any

from proxy.config.environ import Expansion
from proxy.config.problems import Path, Problem, field_name, nearest_to, one_of, shortened
from proxy.config.tree import Tree
from proxy.secret import Secret
from proxy.snapshot import admin_address

MAX_PROBLEMS = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ALIAS = re.compile(r"[A-Za-z0-9][\x21-\x29\x2b-\x7e]{0,127}\Z")  # visible ASCII but '*'
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")  # RFC 9110 §5.6.2
_OURS = {
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "accept-encoding",
    "te",
    "upgrade",
}
_OF_RELEVANT = {"mask_results_after", "summary"}
"""Fields of a context rule that other policies than `relevant` have no use for."""


class Findings:
    """Collects problems and knows where in the file each path stands. Of very many it keeps the first."""

    def __init__(self, tree: Tree, file: str) -> None:
        self.tree = tree
        self.file = file
        self._problems: dict[Problem, None] = {}

    @property
    def problems(self) -> list[Problem]:
        """What was found, each problem once."""
        return list(self._problems)

    def refuse(
        self,
        path: Path,
        message: str,
        *,
        at_name: bool = False,
        value: str | None = None,
        expected: str | None = None,
        meant: str | None = None,
        known: Collection[str] = (),
    ) -> None:
        """Note one problem at `path`: at its value, or `at_name` where the name is what is wrong.

        The nearest of the `known` names to `meant` is offered.
        """
        if len(self._problems) == MAX_PROBLEMS:
            return
        mark = self.tree.name_mark(path) if at_name else self.tree.mark(path)
        nearest = nearest_to(meant, known) if meant is not None else None
        expected = expected or (f"one of {one_of(known)}" if known else None)
        field = field_name(path)
        problem = Problem(self.file, mark.line, mark.column, field, message, value, expected, nearest)
        self._problems[problem] = None


class Checks:
    """All checks of one configuration. `value` is the file's content with references resolved."""

    def __init__(self, value: Any, found: Findings, expansion: Expansion) -> None:
        self._value = value
        self._found = found
        self._expansion = expansion
        self._patterns_given = tuple(a[:-1] for a in self._section("models") if a.endswith("*"))

    def run(self) -> None:
        """Note all that is wrong."""
        for check in (
            self._names,
            self._references,
            self._places,
            self._patterns,
            self._headers,
            self._keys,
            self._reach,
            self._contexts,
        ):
            check()

    def _section(self, name: str) -> dict[str, Any]:
        section = self._value.get(name)
        return section if isinstance(section, dict) else {}

    def _entries(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, entry in self._section(name).items():
            if isinstance(entry, dict):
                yield key, entry

    def _keys_given(self) -> Iterator[tuple[int, dict[str, Any]]]:
        keys = self._value.get("keys")
        for i, key in enumerate(keys if isinstance(keys, list) else []):
            if isinstance(key, dict):
                yield i, key

    def _names(self) -> None:
        named: list[tuple[Path, Any]] = [
            ((section, name), name)
            for section in ("providers", "schemas", "routes")
            for name in self._section(section)
        ]
        named += [(("keys", i, "name"), key.get("name")) for i, key in self._keys_given()]
        for path, name in named:
            if isinstance(name, str) and path not in self._expansion.failed and not _NAME.match(name):
                self._found.refuse(
                    path,
                    "not a name",
                    at_name=path[0] != "keys",
                    expected="letters, digits, '.', '_' and '-', at most 64, the first a letter or digit",
                )
        for alias in self._section("models"):
            if alias != "*" and not _ALIAS.match(alias.removesuffix("*")):
                self._found.refuse(
                    ("models", alias),
                    "not an alias",
                    at_name=True,
                    expected="a name without blanks, at most 128 characters, a '*' only at its end",
                )

    def _references(self) -> None:
        for name, route in self._entries("routes"):
            for path, alias in self._route_models(name, route):
                self._must_exist(path, alias, "models", "model")
            self._floor(name, route)
            self._agree(name, route)
            self._hedge(name, route)
            if route.get("schema") is not None:
                self._must_exist(("routes", name, "schema"), route["schema"], "schemas", "schema")
        for alias, model in self._entries("models"):
            self._must_exist(("models", alias, "provider"), model.get("provider"), "providers", "provider")
            for i, place in self._deployments(model):
                path = ("models", alias, "deployments", i, "provider")
                self._must_exist(path, place.get("provider"), "providers", "provider")
        for i, key in self._keys_given():
            routes = key.get("routes")
            for j, name in enumerate(routes if isinstance(routes, list) else []):
                if name != "default":  # there is always one: what selects no route is served as `default`
                    self._must_exist(("keys", i, "routes", j), name, "routes", "route")

    @staticmethod
    def _route_models(name: str, route: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
        """Every place of a route that names a model."""
        lists: list[tuple[Path, Any]] = [((key,), route.get(key)) for key in ("ladder", "agree")]
        rules = route.get("match")
        for i, rule in enumerate(rules if isinstance(rules, list) else []):
            if isinstance(rule, dict):
                lists.append((("match", i, "ladder"), rule.get("ladder")))
        for path, aliases in lists:
            for i, alias in enumerate(aliases if isinstance(aliases, list) else []):
                yield ("routes", name, *path, i), alias
        floor = route.get("floor")
        if isinstance(floor, dict):
            yield ("routes", name, "floor", "of"), floor.get("of")
        context = route.get("context")
        summary = context.get("summary") if isinstance(context, dict) else None
        if isinstance(summary, dict):
            yield ("routes", name, "context", "summary", "model"), summary.get("model")

    def _floor(self, name: str, route: dict[str, Any]) -> None:
        """A floor is that of a model which may be climbed to."""
        floor, ladder = route.get("floor"), route.get("ladder")
        if not isinstance(floor, dict) or not isinstance(ladder, list):
            return
        of = floor.get("of")
        if isinstance(of, str) and of not in ladder and of in self._section("models"):
            known = [alias for alias in ladder if isinstance(alias, str)]
            self._found.refuse(
                ("routes", name, "floor", "of"),
                "not a model of the ladder",
                value=f"'{shortened(of)}'",
                known=known,
            )

    def _agree(self, name: str, route: dict[str, Any]) -> None:
        """Two models agree below a third one, to which a disagreement climbs."""
        pair, ladder, limits = route.get("agree"), route.get("ladder"), route.get("limits")
        if not isinstance(pair, list) or not isinstance(ladder, list) or not ladder:
            return
        if len(pair) == 2 and pair[0] == pair[1]:
            self._found.refuse(
                ("routes", name, "agree", 1), "a model agrees with itself", expected="another model"
            )
        if ladder[-1] in pair:
            self._found.refuse(
                ("routes", name, "agree", pair.index(ladder[-1])),
                "the last model of the ladder is asked where the two disagree",
                value=f"'{shortened(ladder[-1])}'",
                expected="models below it",
            )
        attempts = limits.get("attempts") if isinstance(limits, dict) else None
        if isinstance(attempts, int) and attempts < 3:
            self._found.refuse(
                ("routes", name, "limits", "attempts"),
                "too few for `agree`: two models are asked at once, and a third where they disagree",
                value=str(attempts),
                expected="3 or more",
            )

    def _hedge(self, name: str, route: dict[str, Any]) -> None:
        """A second call is one of the route's attempts."""
        limits = route.get("limits")
        if isinstance(route.get("hedge"), dict) and isinstance(limits, dict) and limits.get("attempts") == 1:
            self._found.refuse(
                ("routes", name, "limits", "attempts"),
                "too few for `hedge`, which may make a second call",
                value="1",
                expected="2 or more",
            )

    def _must_exist(self, path: Path, name: Any, section: str, kind: str) -> None:
        known = self._section(section)
        if not isinstance(name, str) or name in known or path in self._expansion.failed:
            return
        if section == "models" and name.startswith(self._patterns_given):
            return
        self._found.refuse(
            path,
            f"no {kind} of this name",
            value=f"'{shortened(self._expansion.written.get(path, name))}'",
            meant=name,
            known=known,
            expected=None if known else f"a name under {section}, which has none",
        )

    @staticmethod
    def _deployments(model: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        places = model.get("deployments")
        for i, place in enumerate(places if isinstance(places, list) else []):
            if isinstance(place, dict):
                yield i, place

    def _places(self) -> None:
        """A model lives at one provider, or at several deployments, which differ."""
        for alias, model in self._entries("models"):
            several = model.get("deployments") is not None
            if several and alias.endswith("*"):
                self._found.refuse(
                    ("models", alias, "deployments"),
                    "an alias with '*' lives at one `provider`; name the models that have several deployments",
                    at_name=True,
                )
            elif several and model.get("provider") is not None:
                self._found.refuse(
                    ("models", alias, "provider"),
                    "`deployments` say where it lives; keep one of the two",
                    at_name=True,
                )
            elif not several and model.get("provider") is None:
                self._found.refuse(
                    ("models", alias, "provider"),
                    "is missing",
                    at_name=True,
                    expected="a provider's name, or `deployments`",
                )
            seen: dict[tuple[Any, Any], int] = {}
            for i, place in self._deployments(model):
                where = str(place.get("provider")), str(place.get("name") or model.get("name") or alias)
                if (first := seen.setdefault(where, i)) != i:
                    self._found.refuse(
                        ("models", alias, "deployments", i),
                        f"the same place as deployments[{first}]",
                        expected="another provider or name",
                    )

    def _patterns(self) -> None:
        for alias, model in self._entries("models"):
            if alias.endswith("*") and model.get("name") is not None:
                self._found.refuse(
                    ("models", alias, "name"),
                    "an alias with '*' passes on the name that was asked for; leave `name` out",
                    at_name=True,
                )
        for name, route in self._entries("routes"):
            for path, alias in self._route_models(name, route):
                if isinstance(alias, str) and alias.endswith("*"):
                    self._found.refuse(
                        path,
                        "a pattern is not a model; name one that it matches",
                        value=f"'{shortened(alias)}'",
                    )

    def _headers(self) -> None:
        for name, provider in self._entries("providers"):
            headers = provider.get("headers")
            own = provider.get("api_key_header", "authorization")
            for header in headers if isinstance(headers, dict) else {}:
                path = ("providers", name, "headers", header)
                if not _TOKEN.match(header):
                    self._found.refuse(path, "not a header's name", at_name=True)
                elif header.lower() in _OURS:
                    self._found.refuse(path, "the proxy sets this header itself; leave it out", at_name=True)
                elif "api_key" in provider and isinstance(own, str) and header.lower() == own.lower():
                    self._found.refuse(path, "api_key sets this header already; keep one", at_name=True)

    def _keys(self) -> None:
        names: dict[str, int] = {}
        digests: dict[bytes, int] = {}
        for i, key in self._keys_given():
            name, secret = key.get("name"), key.get("key")
            if isinstance(name, str) and names.setdefault(name, i) != i:
                self._found.refuse(("keys", i, "name"), f"keys[{names[name]}] has this name already")
            if isinstance(secret, Secret) and secret.reveal():
                first = digests.setdefault(digest(secret), i)
                if first != i:
                    self._found.refuse(
                        ("keys", i, "key"), f"the same key as keys[{first}]; each needs its own"
                    )

    def _reach(self) -> None:
        """An open proxy on a network would let everyone spend the operator's money."""
        server = self._section("server")
        host = server.get("host", "127.0.0.1")
        if self._value.get("keys") is None and isinstance(host, str) and not is_loopback(host):
            self._found.refuse(
                ("server", "host") if "host" in server else (),
                "without `keys` the proxy is open to everyone, and listens on a loopback address only",
                value=f"'{shortened(self._expansion.written.get(('server', 'host'), host))}'",
                expected="`keys`, or 127.0.0.1, ::1 or localhost",
            )
        admin = server.get("admin_listen")
        if self._value.get("keys") is None and isinstance(admin, str) and not _is_ours(admin):
            self._found.refuse(
                ("server", "admin_listen"),
                "without `keys` everyone who reaches it would be an administrator",
                value=f"'{shortened(admin)}'",
                expected="`keys`, or a loopback address or unix:PATH",
            )

    def _contexts(self) -> None:
        for name, route in self._entries("routes"):
            context = route.get("context")
            idle = [
                field
                for field in ("budget_tokens", "recall_tool")
                if isinstance(context, dict) and context.get(field) and context.get("policy", "off") == "off"
            ]
            if idle:
                self._found.refuse(
                    ("routes", name, "context", idle[0]),
                    "has no effect while policy is off",
                    at_name=True,
                    expected="policy: recent or relevant beside it",
                )
            elif isinstance(context, dict) and context.get("policy", "off") != "relevant":
                for field in sorted(_OF_RELEVANT & context.keys()):
                    self._found.refuse(
                        ("routes", name, "context", field),
                        "has an effect with one policy only",
                        at_name=True,
                        expected="policy: relevant beside it",
                    )
            self._summary_bears(name, route)

    def _summary_bears(self, name: str, route: dict[str, Any]) -> None:
        """What may not leave a region may not be summarised elsewhere."""
        context, wanted = route.get("context"), route.get("require")
        summary = context.get("summary") if isinstance(context, dict) else None
        alias = summary.get("model") if isinstance(summary, dict) else None
        if not isinstance(alias, str) or not isinstance(wanted, list):
            return
        model = self._section("models").get(alias)
        if not isinstance(model, dict):
            return
        tags = model.get("tags")
        has = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
        missing = [tag for tag in wanted if isinstance(tag, str) and tag not in has]
        if missing:
            self._found.refuse(
                ("routes", name, "context", "summary", "model"),
                "lacks a tag that the route requires",
                value=f"'{shortened(alias)}'",
                expected=f"a model with the tag '{shortened(missing[0])}'",
            )


def _is_ours(listen: str) -> bool:
    """Whether only this machine reaches `server.admin_listen`; also where it is no address at all."""
    try:
        address = admin_address(listen)
    except ValueError:
        return True
    return isinstance(address, str) or is_loopback(address[0])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def digest(secret: Secret) -> bytes:
    """What is kept of a client's key."""
    return hashlib.sha256(secret.reveal().encode()).digest()
