"""The clientState of our subscriptions: built from a key and a mailbox, and checked in constant time. Pure.

This file knows no notification and no subscription, and it reads no settings: the keys are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Any

from sync.errors import Forged

_MAILBOX, _CLIENT_STATE = 36, 101
"""Characters of a GUID, with which a clientState begins, and of all of it."""


def build_client_state(key: str, mailbox: str) -> str:
    """``{mailbox}.{keyed hash of it}``: tells whose calendar a notification is about, and that we subscribed to it.

    A lifecycle notification names no resource, so the mailbox has to be in what Graph sends back. 101 characters;
    Graph allows 128. Source: RFC 7693, keyed BLAKE2.
    """
    return _finish_client_state(_begin_client_state(key), mailbox)


def _begin_client_state(key: str) -> blake2b:
    """BLAKE2 takes a key of 64 bytes at most, and ours may be longer."""
    return blake2b(key=blake2b(key.encode()).digest(), digest_size=32, person=b"clientState")


def _finish_client_state(begun: blake2b, mailbox: str) -> str:
    keyed = begun.copy()
    keyed.update(mailbox.encode())
    return f"{mailbox}.{keyed.hexdigest()}"


def parse_client_state(value: Any, keys: Sequence[str]) -> str:
    """Return the mailbox for which *value* was built with one of *keys*. Raises: Forged if there is none."""
    return ClientStates(keys).mailbox_of(value)


class ClientStates:
    """The valid clientStates of one POST: each key is prepared once, and each mailbox is hashed once."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._begun = [_begin_client_state(key) for key in keys]
        self._valid: dict[str, list[str]] = {}

    def mailbox_of(self, value: Any) -> str:
        """Return the mailbox for which *value* was built; compare in constant time. Raises: Forged if there is none."""
        # Only ASCII texts can be compared in constant time.
        if isinstance(value, str) and len(value) == _CLIENT_STATE and value.isascii():
            mailbox = value[:_MAILBOX]
            is_ours = False
            # Compare with all of them, so that the time does not tell which one fits.
            for valid in self._valid.get(mailbox) or self._add(mailbox):
                is_ours |= compare_digest(value, valid)
            if is_ours:
                return mailbox
        raise Forged("clientState missing or not ours")

    def _add(self, mailbox: str) -> list[str]:
        valid = self._valid[mailbox] = []
        for begun in self._begun:
            valid.append(_finish_client_state(begun, mailbox))
        return valid
