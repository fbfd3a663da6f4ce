"""Identifiers as Outlook gives them: long, base64url-like, and different in letter case alone."""

from __future__ import annotations

import random
import re
import string

_ALPHABET = string.ascii_letters + string.digits + "-_"
_WELL_FORMED = re.compile(r"AA[A-Za-z0-9_+/-]{6,}={0,2}")


def plain_id(rng: random.Random) -> str:
    """The id that changes when the item moves to another folder."""
    return "AAMkAG" + _letters(rng, 145) + "="


def immutable_id(rng: random.Random) -> str:
    """The id that stays while the item stays in its mailbox."""
    return "AAkALgAA" + _letters(rng, 111) + "="


def folder_id(rng: random.Random) -> str:
    return "AAMkAG" + _letters(rng, 113) + "="


def change_key(rng: random.Random) -> str:
    return _letters(rng, 22) + "=="


def ical_uid(rng: random.Random) -> str:
    return "040000008200E00074C5B7101A82E008" + rng.randbytes(40).hex().upper()


def twin(rng: random.Random, item_id: str) -> str:
    """Another id, equal to *item_id* for everyone who compares without case."""
    letters = [at for at, character in enumerate(item_id) if character.isalpha() and at >= 8]
    at = rng.choice(letters)
    return item_id[:at] + item_id[at].swapcase() + item_id[at + 1 :]


def is_well_formed(item_id: str) -> bool:
    """Graph tells a damaged id (400 ErrorInvalidIdMalformed) from an unknown one (404 ErrorItemNotFound)."""
    return len(item_id) % 4 == 0 and _WELL_FORMED.fullmatch(item_id) is not None


def is_url_safe(item_id: str) -> bool:
    """Say whether *item_id* is of the alphabet that Graph gives ids in."""
    return "+" not in item_id and "/" not in item_id


def to_url_safe(item_id: str) -> str:
    """The same id in the alphabet that Graph gives ids in. Source: RFC 4648, section 5."""
    return item_id.replace("+", "-").replace("/", "_")


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(_ALPHABET, k=count))
