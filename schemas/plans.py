"""What a schema says of each place of a document, worked out only where a document leads.

A `Goal` is what a value must satisfy: one of several `Branch`es, each a conjunction of schemas.
References are followed, `allOf` is multiplied out, the members of `anyOf` and `oneOf` are branches.
What this cannot express (`not`, `if`, the "exactly one" of `oneOf`, ...) is asked of the validator
once the value has ended. Every approximation is to the permissive side: a Goal accepts whatever the
schema accepts.
"""

from collections.abc import Iterable
from typing import Any

from schemas.atoms import ANY_KIND, NO_LIMIT, STRING, Atom, Check, late_check, says_something
from schemas.dialect import Examined
from schemas.refs import Place

MAX_BRANCHES = 128
"""Of one value. Where there are more the rest is left to the validator, at the end of the value."""
_MAX_ATOMS = 100
_MAX_MEMO = 2_000
_MAX_NAMES, _MAX_NAME_CHARS = 200, 64  # of a document's own invention that a branch remembers
_MAX_LATE = 40


class Goal:
    """What a value must satisfy: one of `branches`. `ones` has a 1 for each of them."""

    __slots__ = ("branches", "number", "ones")

    def __init__(self, branches: list["Branch"], number: int) -> None:
        self.branches = branches
        self.ones = [1] * len(branches)
        self.number = number


class Branch:
    """A conjunction of atoms that a value may satisfy, with what follows for its parts."""

    def __init__(self, atoms: tuple[Atom, ...], plans: "Plans") -> None:
        self.atoms = atoms
        self.plans = plans
        self.kinds = ANY_KIND
        self.strings: frozenset[str] | None = None
        for atom in atoms:
            self.kinds &= atom.kinds
            if atom.strings is not None:
                self.strings = atom.strings if self.strings is None else self.strings & atom.strings
        if self.strings is not None and not self.strings:
            self.kinds &= ~STRING
        self.sorted_strings = None if self.strings is None else sorted(self.strings)
        self.required = frozenset[str]().union(*(atom.required for atom in atoms))
        self.min_members = max((atom.min_members for atom in atoms), default=0)
        self.max_members = min((atom.max_members for atom in atoms), default=NO_LIMIT)
        self.min_items = max((atom.min_items for atom in atoms), default=0)
        self.max_items = min((atom.max_items for atom in atoms), default=NO_LIMIT)
        self.max_length = min((atom.max_length for atom in atoms), default=NO_LIMIT)
        self.text_checks = [atom.text_check for atom in atoms if atom.text_check]
        self.number_checks = [atom.number_check for atom in atoms if atom.number_check]
        self.constant_checks = [atom.constant_check for atom in atoms if atom.constant_check]
        self.late = [atom for atom in atoms if atom.late]
        self.watched = self.strings is not None or self.max_length != NO_LIMIT
        self._any_name_tells = any(atom.patterns or "propertyNames" in atom.place.schema for atom in atoms)
        self._members: dict[str, Goal | None] = {}
        self._other_member: Goal | None = None
        self._knows_other = False
        self._items: dict[int, Goal | None] = {}

    def member(self, name: str) -> Goal | None:
        """What the member `name` of an object must satisfy; None where there may be none."""
        if name in self._members:
            return self._members[name]
        known = any(name in atom.named for atom in self.atoms)
        if known or self._any_name_tells:
            goal = self._goal_of_member(name)
            if known or (len(self._members) < _MAX_NAMES and len(name) <= _MAX_NAME_CHARS):
                self._members[name] = goal
            return goal
        if not self._knows_other:
            self._other_member = self._goal_of_member(name)
            self._knows_other = True
        return self._other_member

    def _goal_of_member(self, name: str) -> Goal | None:
        refs = self.plans.refs
        goal = self.plans.goal(place for atom in self.atoms for place in atom.members(refs, name))
        names = [
            refs.into(atom.place, "/propertyNames", atom.place.schema["propertyNames"])
            for atom in self.atoms
            if "propertyNames" in atom.place.schema
        ]
        if names:
            wanted = self.plans.goal(names).branches
            if not any(branch.kinds & STRING and branch.takes_text(name) for branch in wanted):
                return None
        return goal if goal.branches else None

    def item(self, index: int) -> Goal | None:
        """What the item at `index` of an array must satisfy; None where there may be none."""
        if index >= self.max_items:
            return None
        index = min(index, self.plans.longest_tuple)
        if index not in self._items:
            refs = self.plans.refs
            goal = self.plans.goal(place for atom in self.atoms for place in atom.item(refs, index))
            self._items[index] = goal if goal.branches else None
        return self._items[index]

    def takes_text(self, value: str) -> bool:
        """Whether a string satisfies it, as far as its own keywords go."""
        if self.strings is not None and value not in self.strings:
            return False
        return all(check(value) for check in self.text_checks)

    def takes_number(self, value: float) -> bool:
        """The same for a number."""
        return all(check(value) for check in self.number_checks)

    def takes_constant(self, value: Any) -> bool:
        """The same for values that only constants restrict further."""
        return all(check(value) for check in self.constant_checks)

    def closes_object(self, value: dict[str, Any]) -> bool:
        """Whether an object may end as it is, as far as its own keywords go."""
        if len(value) < self.min_members or not self.required <= value.keys():
            return False
        return not self.constant_checks or self.takes_constant(value)

    def closes_array(self, value: list[Any]) -> bool:
        """The same for an array."""
        return len(value) >= self.min_items and (not self.constant_checks or self.takes_constant(value))


class Plans:
    """The goals of one schema. What was worked out is kept, within bounds."""

    def __init__(self, examined: Examined) -> None:
        self.refs = examined.refs
        self.dialect = examined.dialect
        self._goals: dict[frozenset[str], Goal] = {}
        self._numbers = 0
        self._atoms: dict[str, Atom] = {}
        self._branches: dict[frozenset[str], Branch] = {}
        self._spreads: dict[str, list[frozenset[str]]] = {}
        self._incomplete: set[str] = set()
        self._late: dict[str, Check | None] = {}
        self._unions: dict[tuple[int, ...], tuple[list[Branch], list[int]]] = {}
        self._places: dict[str, Place] = {}
        lists = (place.schema.get(key) for place in examined.places for key in ("prefixItems", "items"))
        self.longest_tuple = max((len(held) for held in lists if isinstance(held, list)), default=0)
        self.anything = self._made([self._branch(frozenset())])
        self.root = self.goal([self.refs.root])

    def goal(self, places: Iterable[Place]) -> Goal:
        """What a value must satisfy that meets all of `places`."""
        at = {place.pointer: place for place in places}
        if not at:
            return self.anything
        key = frozenset(at)
        goal = self._goals.get(key)
        if goal is None:
            try:
                spread = _product([self._spread(place) for place in at.values()])
            except RecursionError:  # a chain of a thousand references
                spread = None
            goal = self.anything if spread is None else self._made([self._branch(one) for one in spread])
            if len(self._goals) < _MAX_MEMO:
                self._goals[key] = goal
        return goal

    def union(self, goals: list[Goal]) -> tuple[list[Branch], list[int]]:
        """The branches of several goals, each with the bits of the goals that it belongs to.

        Bit n stands for the n-th of the different goals, in their order.
        """
        key = tuple(dict.fromkeys(goal.number for goal in goals))
        made = self._unions.get(key)
        if made is None:
            bits: dict[Branch, int] = {}
            for place, number in enumerate(key):
                goal = next(goal for goal in goals if goal.number == number)
                for branch in goal.branches:
                    bits[branch] = bits.get(branch, 0) | 1 << place
            if len(bits) > MAX_BRANCHES:
                bits = {self.anything.branches[0]: (1 << len(key)) - 1}
            made = list(bits), list(bits.values())
            if len(self._unions) < _MAX_MEMO:
                self._unions[key] = made
        return made

    def late(self, atom: Atom) -> Check | None:
        """The validator of an atom's whole schema, where there can be one."""
        pointer = atom.place.pointer
        if pointer not in self._late and len(self._late) < _MAX_LATE:
            self._late[pointer] = late_check(atom, self.refs)
        return self._late.get(pointer)

    def _made(self, branches: list[Branch]) -> Goal:
        self._numbers += 1
        return Goal([branch for branch in branches if branch.kinds], self._numbers)

    def _branch(self, pointers: frozenset[str]) -> Branch:
        branch = self._branches.get(pointers)
        if branch is None:
            branch = Branch(tuple(self._atom(pointer) for pointer in sorted(pointers)), self)
            if len(self._branches) < _MAX_MEMO:
                self._branches[pointers] = branch
        return branch

    def _atom(self, pointer: str) -> Atom:
        if pointer not in self._atoms:
            incomplete = pointer in self._incomplete
            self._atoms[pointer] = Atom(self._places[pointer], self.dialect, incomplete=incomplete)
        return self._atoms[pointer]

    def _spread(self, place: Place) -> list[frozenset[str]]:
        """The conjunctions of places, one of which must hold for the schema at `place` to hold."""
        schema = place.schema
        if not isinstance(schema, dict):
            return [frozenset()] if schema else []
        if place.pointer not in self._spreads:
            self._spreads[place.pointer] = self._spread_object(place, schema)
        return self._spreads[place.pointer]

    def _spread_object(self, place: Place, schema: dict[str, Any]) -> list[frozenset[str]]:
        own = frozenset({place.pointer})
        self._places[place.pointer] = place
        factors = []
        exact = True
        for _, targets in self.refs.referred(place):
            exact = exact and len(targets) == 1
            factors += [self._spread(target) for target in targets if exact]
        if self.dialect.ref_hides_siblings and "$ref" in schema:
            return factors[0] if exact else [frozenset()]
        into = self.refs.into
        for index, child in enumerate(schema.get("allOf", ())):
            factors.append(self._spread(into(place, f"/allOf/{index}", child)))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                factors.append(
                    [
                        one
                        for index, child in enumerate(schema[keyword])
                        for one in self._spread(into(place, f"/{keyword}/{index}", child))
                    ]
                )
        bare = [own] if says_something(schema) else [frozenset[str]()]
        whole = _product([bare, *factors]) if exact else None
        if whole is None:
            self._incomplete.add(place.pointer)
            return [own]
        return whole


def _product(factors: list[list[frozenset[str]]]) -> list[frozenset[str]] | None:
    """One conjunction for each choice of one from each of `factors`; None where that is too many."""
    if len(factors) == 1 and len(factors[0]) <= MAX_BRANCHES:
        return factors[0]
    found = [frozenset[str]()]
    for factor in factors:
        if len(found) * len(factor) > 4 * MAX_BRANCHES:
            return None
        found = list(dict.fromkeys(one | other for one in found for other in factor))
        if len(found) > MAX_BRANCHES or any(len(one) > _MAX_ATOMS for one in found):
            return None
    return found
