"""Texts that must never be shown: keys of providers and clients."""


class Secret(str):
    """A text that must never be shown: its repr hides it, and it has to be asked for by `reveal()`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        """The text itself."""
        return str.__str__(self)
