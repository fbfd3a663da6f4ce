"""The settings of a process, as a test gives them to it: in its environment, and taken back afterwards.

Only what reads and writes ``os.environ`` lives here. Which settings there are is the business of the tests.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self


class Environment:
    """While entered, settings are given to this process; afterwards its environment is as it was before."""

    def __enter__(self) -> Self:
        self._before = dict(os.environ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in os.environ.keys() - self._before.keys():
            del os.environ[name]
        os.environ.update(self._before)

    def set(self, **settings: str) -> None:
        """Give these settings, in the place of those with the same name."""
        os.environ.update(settings)

    def unset(self, *names: str) -> None:
        """Take these settings away, where they are given."""
        for name in names:
            os.environ.pop(name, None)
