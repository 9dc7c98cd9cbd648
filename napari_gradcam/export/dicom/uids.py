"""New UIDs, of the form 2.25.uuid, which need no registered root (PS3.5, B.2)."""

from __future__ import annotations

import hashlib
import secrets
from uuid import UUID, uuid4

_key = secrets.token_bytes(32)


def new_uid() -> str:
    """Give a UID that nothing else has."""
    return f"2.25.{uuid4().int}"


def stand_in_uid(original: str) -> str:
    """Give the UID that stands for something: the same for as long as the program runs, and never again.

    It is a keyed hash, and the key is forgotten with the program: who knows the original cannot find it by the hash.
    """
    return f"2.25.{UUID(bytes=hashed(original, 16), version=4).int}"


def hashed(text: str, size: int) -> bytes:
    """Give the keyed hash of a text, so many bytes."""
    return hashlib.blake2b(text.encode(), key=_key, digest_size=size).digest()
