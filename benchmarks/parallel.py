"""Counts on all cores: what is counted, and not timed, is the same however busy the machine is."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def in_parallel(tasks: Mapping[K, Callable[[], V]]) -> Iterator[tuple[K, V]]:
    """Each task's result, as soon as it is there; tasks and results go to other processes and back by pickle.

    Raises: what a task raises.
    """
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _prepare) as pool:
        try:
            found = {pool.submit(task): key for key, task in tasks.items()}
            for future in as_completed(found):
                yield found[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, without a word of its own
    logging.disable(logging.CRITICAL)
