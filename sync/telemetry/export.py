"""Sends what telemetry.py is told to Application Insights: the one place where the OpenTelemetry SDK is set up.

The exporters, whose import takes longer than Graph waits for, come with the first batch, in the SDK's own threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

SCOPE = "booking-sync"

# Application Insights expects the difference since the last time, not the sum since the process began.
_TEMPORALITY: dict[type, AggregationTemporality] = dict.fromkeys(
    (Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA
)

_QUIET = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)
"""The exporter would also report on itself, to Microsoft, and ask there for settings. A setting that is there stays."""


def start(connection_string: str) -> Callable[[], None]:
    """Begin to send; what is returned sends the rest, and ends it.

    The SDK's own settings say which traces are sent, and how often (OTEL_TRACES_SAMPLER and so on).
    Source: OpenTelemetry, "Environment Variable Specification".
    """
    for name in _QUIET:
        os.environ.setdefault(name, "true")
    resource = Resource.create({"service.name": os.environ.get("WEBSITE_SITE_NAME", SCOPE)})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(_Spans(connection_string)))
    meters = MeterProvider([PeriodicExportingMetricReader(_Metrics(connection_string))], resource=resource)
    # Theirs alone: with providers for all, the SDKs of Graph and Azure would send the URLs of their calls.
    telemetry.start(tracers.get_tracer(SCOPE), meters.get_meter(SCOPE))

    def end() -> None:
        telemetry.stop()
        tracers.shutdown()
        meters.shutdown()

    return end


class _Late:
    """Makes the real exporter when there is something to export. Trouble with that is told once, and harms nothing."""

    kind: str

    def __init__(self, connection_string: str, **options: Any) -> None:
        super().__init__(**options)
        self._connection_string = connection_string
        self._exporter: Any = None
        self._has_failed = False

    def _export(self, what: Any) -> bool:
        if self._exporter is None and not self._has_failed:
            try:
                from azure.monitor.opentelemetry import exporter

                # It finds the identity to sign in with in APPLICATIONINSIGHTS_AUTHENTICATION_STRING.
                make = getattr(exporter, self.kind)
                self._exporter = make(connection_string=self._connection_string, disable_offline_storage=True)
            except Exception as error:
                self._has_failed = True
                log.error("telemetry is not sent error=%s", type(error).__name__)
        return self._exporter is not None and self._exporter.export(what).name == "SUCCESS"

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        if self._exporter is not None:
            self._exporter.shutdown()


class _Spans(_Late, SpanExporter):
    kind = "AzureMonitorTraceExporter"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS if self._export(spans) else SpanExportResult.FAILURE


class _Metrics(_Late, MetricExporter):
    kind = "AzureMonitorMetricExporter"

    def __init__(self, connection_string: str) -> None:
        super().__init__(connection_string, preferred_temporality=_TEMPORALITY)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        return MetricExportResult.SUCCESS if self._export(metrics_data) else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True
