"""Short names for what has long ids, such as E1 for an event, so that a person can type them."""

from __future__ import annotations


class Handles:
    """Numbers ids in the order they are first asked about, behind one letter."""

    def __init__(self, letter: str) -> None:
        self._letter = letter
        self._ids: dict[str, str] = {}

    def of(self, id: str) -> str:
        return self._ids.setdefault(id, f"{self._letter}{len(self._ids) + 1}")

    def id_of(self, text: str) -> str:
        """The id behind a handle, in any case; an id stands for itself."""
        return next((id for id, handle in self._ids.items() if handle == text.upper()), text)
