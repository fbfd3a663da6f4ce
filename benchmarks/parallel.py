"""Counts on all cores: what is counted, and not timed, is the same however busy the machine is."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def in_parallel(tasks: Mapping[K, Callable[[], V]]) -> Iterator[tuple[K, V]]:
    """Each task's result, as soon as it is there; tasks and results go to other processes and back by pickle.

    Raises: what a task raises. Then, and if nobody wants the rest, what others are at is given up.
    """
    workers = min(len(tasks), os.cpu_count() or 1)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare)
    try:
        found = {pool.submit(task): key for key, task in tasks.items()}
        for future in as_completed(found):
            yield found[future], future.result()
    except BaseException:
        for child in active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, without a word of its own
    logging.disable(logging.CRITICAL)
    Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """Otherwise it would wait for more to do for ever, once who started it was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
