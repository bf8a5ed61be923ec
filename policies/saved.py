"""What the proxy saved one exchange, and by which lever."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Saved:
    """Nano-USD by lever, negative where money was lost; the levers add up to the total."""

    routing: int = 0
    trimming: int = 0
    caching: int = 0
    patch: int = 0

    @property
    def total(self) -> int:
        """All levers together."""
        return self.routing + self.trimming + self.caching + self.patch
