"""Spans and metrics of the app's work, by the OpenTelemetry API alone. No other library of telemetry is known here.

Off until ``start`` is called, which export.py does if there is a connection string. Off, each call compares
with None and nothing is imported. It tells ids, counts, outcomes and the names of errors: no URLs, no texts.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanKind, Tracer

from sync.telemetry import counters
from sync.telemetry.origin import Origin

T = TypeVar("T")
Kind = Literal["internal", "server", "consumer", "client"]
Value = str | int | bool

NOTIFICATIONS = "booking_sync.notifications"
CHANGES = "booking_sync.changes"
AGE = "booking_sync.change.age"
CALLS = "booking_sync.calls"
PUT_BACK = "booking_sync.put_back"
PARKED = "booking_sync.parked"
POISON = "booking_sync.poison"
SUBSCRIPTIONS = "booking_sync.subscriptions"
SILENCE = "booking_sync.silence"
DRIFT = "booking_sync.drift"
HELD = "booking_sync.held"


@dataclass(frozen=True)
class Metric:
    """One metric: its kind, its unit, and the attributes that it is told by."""

    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    tells: str
    attributes: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    NOTIFICATIONS: Metric("counter", "1", "received, and what became of them", ("fate",)),
    CHANGES: Metric("counter", "1", "changes processed, by what was done", ("outcome",)),
    AGE: Metric("histogram", "s", "since a change was notified, or found by a sweep, until processed", ("outcome",)),
    CALLS: Metric("counter", "1", "calls of graph, subscriptions, dataverse, table and queue", ("service", "status")),
    PUT_BACK: Metric("counter", "1", "messages put back on their queue for later", ("queue",)),
    PARKED: Metric("counter", "1", "messages moved to a poison queue", ("queue", "error")),
    POISON: Metric("gauge", "1", "messages in a poison queue, counted hourly", ("queue",)),
    SUBSCRIPTIONS: Metric("gauge", "1", "mailboxes after a run of the roster", ("state",)),
    SILENCE: Metric("gauge", "s", "since the last notification that this process received"),
    DRIFT: Metric("histogram", "1", "differences that the sweep of one mailbox found", ("fate",)),
    HELD: Metric("gauge", "1", "events that are held or waiting, counted hourly", ("state",)),
}

_COUNTED = {counters.NOTIFICATION: (NOTIFICATIONS, "fate"), counters.OUTCOME: (CHANGES, "outcome")}
"""The metrics that counters.py counts for the status: how their names begin there, and the names here."""


class Span:
    """Tells of a piece of work while it lasts. The base class tells nobody."""

    def set(self, **attributes: Value | None) -> None:
        """Add what is known only now."""

    def answered(self, status: int) -> None:
        """A service has, with this HTTP status."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        return None


_NOTHING = Span()
_on: _Telemetry | None = None


def start(tracer: Tracer, meter: Meter) -> None:
    """From now on, tell *tracer* and *meter*."""
    global _on
    _on = _Telemetry(tracer, meter)


def stop() -> None:
    """From now on, tell nobody."""
    global _on
    _on = None


def is_on() -> bool:
    """Whether anybody is told."""
    return _on is not None


def span(
    name: str, kind: Kind = "internal", origin: Origin | None = None, **attributes: Value | None
) -> AbstractContextManager[Span]:
    """A piece of work, whose calls become part of it; it goes on from *origin*, if that is given."""
    return _NOTHING if _on is None else _on.span(name, kind, origin, attributes)


def call(service: str, what: str) -> AbstractContextManager[Span]:
    """One call of *service*, which is counted as well."""
    return _NOTHING if _on is None else _on.call(service, what)


async def called(service: str, what: str, answer: Awaitable[T]) -> T:
    """*answer*, as one call of *service*; an HTTP response tells its status itself."""
    with call(service, what) as telling:
        got = await answer
        telling.answered(getattr(got, "status_code", 200))
        return got


def origin(since: Origin | None = None) -> Origin | None:
    """The origin that goes with a message, so that its processing belongs to the same trace; as old as *since*."""
    return None if _on is None else _on.origin(since)


def annotate(**attributes: Value | None) -> None:
    """Add to the present piece of work."""
    if _on is not None:
        _on.current().set(**attributes)


def event(name: str, **attributes: Value | None) -> None:
    """Something that happened in the present piece of work."""
    if _on is not None:
        _on.event(name, attributes)


def measure(name: str, value: float = 1, **attributes: Value) -> None:
    """One of ``METRICS``: counted up, put into its histogram, or what the gauge shows now."""
    if _on is not None:
        _on.measure(name, value, attributes)


def measure_each(name: str, by: str, values: Mapping[str, int]) -> None:
    """The same for each value of its attribute *by*."""
    for each, value in values.items():
        measure(name, value, **{by: each})


def counted(counts: Mapping[str, int], is_notified: bool) -> None:
    """Tell the counts of the status that are metrics as well."""
    if _on is None:
        return
    if is_notified:
        _on.notified = time.time()
    for prefix, (metric, by) in _COUNTED.items():
        found = {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}
        measure_each(metric, by, found)


def aged(outcome: str, origin: Origin | None) -> None:
    """A change of this age was processed."""
    if origin is not None:
        measure(AGE, max(0.0, time.time() - origin.at), outcome=outcome)


class _Telemetry:
    """The other side of the functions above, while it is on."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = tracer
        self.notified: float | None = None
        """When the last notification came."""
        make: dict[str, Any] = {
            "counter": meter.create_counter,
            "histogram": meter.create_histogram,
            "gauge": meter.create_gauge,
        }
        self._instruments: dict[str, Any] = {
            name: make[metric.kind](name, metric.unit, metric.tells)
            for name, metric in METRICS.items()
            if name != SILENCE
        }
        meter.create_observable_gauge(SILENCE, [self._silence], METRICS[SILENCE].unit, METRICS[SILENCE].tells)

    def _silence(self, _: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        if self.notified is not None:
            yield Observation(time.time() - self.notified)

    @contextmanager
    def span(
        self, name: str, kind: Kind, origin: Origin | None, attributes: Mapping[str, Value | None]
    ) -> Iterator[Span]:
        context = None
        if origin is not None:
            context = self._propagator.extract({"traceparent": origin.traceparent})
        with self._tracer.start_as_current_span(
            name, context, self._kind(kind), record_exception=False, set_status_on_exception=False
        ) as span:
            telling = _Told(span)
            telling.set(**attributes)
            try:
                yield telling
            except BaseException as error:
                telling.failed(type(error).__name__)
                raise

    @contextmanager
    def call(self, service: str, what: str) -> Iterator[Span]:
        # Not the current one: an asynchronous generator may be closed in another context than it began in.
        span = self._tracer.start_span(
            f"{service} {what}", kind=self._kind("client"), record_exception=False, set_status_on_exception=False
        )
        telling = _Told(span)
        telling.set(service=service)
        status = "2xx"
        try:
            yield telling
        except GeneratorExit:
            raise  # whoever asked has seen enough
        except BaseException as error:
            status = _class(getattr(error, "status_code", None))
            telling.failed(type(error).__name__)
            raise
        else:
            status = _class(telling.status)
        finally:
            span.end()
            self.measure(CALLS, 1, {"service": service, "status": status})

    def origin(self, since: Origin | None) -> Origin | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        traceparent = carrier.get("traceparent")
        at = round(time.time(), 1) if since is None else since.at
        return None if traceparent is None else Origin(traceparent, at)

    def current(self) -> _Told:
        return _Told(self._trace.get_current_span())

    def event(self, name: str, attributes: Mapping[str, Value | None]) -> None:
        self._trace.get_current_span().add_event(name, _named(attributes))

    def measure(self, name: str, value: float, attributes: Mapping[str, Value]) -> None:
        instrument = self._instruments[name]
        match METRICS[name].kind:
            case "counter":
                instrument.add(value, attributes)
            case "histogram":
                instrument.record(value, attributes)
            case _:
                instrument.set(value, attributes)

    def _kind(self, kind: Kind) -> SpanKind:
        return self._trace.SpanKind[kind.upper()]


class _Told(Span):
    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        self.status: int | None = 200

    def set(self, **attributes: Value | None) -> None:
        self._span.set_attributes(_named(attributes))

    def answered(self, status: int) -> None:
        self.status = status
        self._span.set_attribute("http.response.status_code", status)
        if status >= 400:
            self.failed(str(status))

    def failed(self, what: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", what)
        self._span.set_status(StatusCode.ERROR)


def _named(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    return {f"booking_sync.{name}": value for name, value in attributes.items() if value is not None}


def _class(status: int | None) -> str:
    return "none" if status is None else f"{status // 100}xx"
