"""The vocabulary that token counts rest on, shipped with the project: nothing is ever downloaded."""

import base64
import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

# The hash that tiktoken itself expects of the unpacked file (tiktoken_ext/openai_public.py, 0.14).
O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
FILE = Path(__file__).parent / "o200k_base.tiktoken.gz"

# How o200k_base splits a text before merging bytes; same source as the hash.
SPLITS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
)


class VocabularyBroken(Exception):
    """The shipped vocabulary is not the one this code was written for."""


def load(file: Path = FILE) -> "tiktoken.Encoding":
    """The o200k_base encoding, in about 0.3 s: keep it, and load it in a thread.

    Raises VocabularyBroken when the file is missing, damaged or another one.
    """
    try:
        unpacked = gzip.decompress(file.read_bytes())
    except (OSError, EOFError) as broken:
        raise VocabularyBroken(f"{file.name} cannot be read: {broken}") from broken
    found = hashlib.sha256(unpacked).hexdigest()
    if found != O200K_SHA256:
        raise VocabularyBroken(f"{file.name}: sha256 is {found}, expected {O200K_SHA256}")
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, unpacked.splitlines())}
    # Imported here: a proxy that never counts does not pay for it at start.
    import tiktoken  # noqa: PLC0415

    return tiktoken.Encoding(
        "o200k_base",
        pat_str="|".join(SPLITS),
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    )
