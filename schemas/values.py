"""Frozen dataclasses that cost what plain ones cost.

At run time freezing makes each construction five times as dear (every field goes through `object.__setattr__`) and
`replace` four times; a request makes some fifty values. Nobody but the type checker needs it: `mypy --strict` sees
all code there is, takes `dataclass` of this module for the one of the standard library, and refuses every
assignment to a field of a frozen one. Modules whose values are made for each request import it from here.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, eq: bool = True, **options: Any) -> Any:
        """As `dataclasses.dataclass`, frozen for the type checker alone; equal values still have equal hashes."""
        return dataclasses.dataclass(eq=eq, unsafe_hash=frozen and eq, **options)


__all__ = ["dataclass"]
