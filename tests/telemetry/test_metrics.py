"""The numbers: counted right, printed in a form that Prometheus reads, and documented one by one."""

import re
from pathlib import Path
from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import ErrorCode
from gateway.protocol.close import CloseCode
from gateway.runtime import health
from gateway.runtime.webhook import WebhookState
from gateway.telemetry.metrics import (
    BUS_STATES,
    CACHE_LEVELS,
    MODES,
    SESSION_STATES,
    WEBHOOK_STATES,
    BusReadings,
    EventReadings,
    Metrics,
    Readings,
)
from store import shelf

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as `name{label="value"}`, read by Prometheus' own parser."""
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    return {
        sample.name + "".join(f'{{{name}="{value}"}}' for name, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_what_happens_is_counted() -> None:
    metrics = Metrics()
    metrics.error("rate_limited")
    metrics.error("rate_limited")
    metrics.closed(4002)
    metrics.resume("resumed")
    metrics.committed(3, 0.004)
    metrics.committed(200, 0.03)
    seen = samples(metrics)
    assert seen['gateway_errors_total{code="rate_limited"}'] == 2
    assert seen['gateway_closes_total{code="4002"}'] == 1
    assert seen['gateway_resumes_total{outcome="resumed"}'] == 1
    assert seen["store_messages_committed_total"] == 203
    assert seen["store_commit_batch_size_count"] == 2
    assert seen['store_commit_batch_size_bucket{le="4.0"}'] == 1
    assert seen['store_commit_seconds_bucket{le="0.005"}'] == 1


def test_numbers_that_others_keep_are_read_when_asked_for() -> None:
    metrics = Metrics()
    assert samples(metrics)["gateway_connections"] == 0
    now = Readings(connections=7, frames_in=10, frames_out=1000, lag_entries=2, sessions={"active": 3})
    metrics.follow(lambda: now)
    seen = samples(metrics)
    assert seen["gateway_connections"] == 7
    assert seen['gateway_frames_total{direction="in"}'] == 10
    assert seen['gateway_frames_total{direction="out"}'] == 1000
    assert seen["gateway_lag_mode_total"] == 2
    assert {state: seen[f'gateway_sessions{{state="{state}"}}'] for state in SESSION_STATES} == {
        "connecting": 0,
        "active": 3,
        "idle": 0,
        "disconnecting": 0,
        "closed": 0,
    }


def test_what_the_stores_have_counted_is_read_when_asked_for() -> None:
    metrics = Metrics()
    now = Readings(
        degraded={"bus_deaf": True},
        postponed={"sweeper": 2},
        cache={"list_hit": 9, "list_miss": 2, "page_load": 3, "session_bytes": 700, "away": 1},
        cache_owed=5,
        queries={"append": 4, "list_for": 2},
        redis={"live": 6, "cache": 8},
        buses={"media": BusReadings(state="deaf", published=1, received=2, dropped=3, gaps=4)},
    )
    metrics.follow(lambda: now)
    seen = samples(metrics)
    assert [seen[f'gateway_degraded{{mode="{mode}"}}'] for mode in MODES] == [0, 0, 1]
    assert seen['gateway_work_postponed_total{work="sweeper"}'] == 2
    assert seen['store_cache_hits_total{level="list"}'] == 9
    assert seen['store_cache_hits_total{level="page"}'] == 0
    assert seen['store_cache_misses_total{level="list"}'] == 2
    assert seen['store_cache_loads_total{level="page"}'] == 3
    assert seen['store_cache_stored_bytes_total{level="session"}'] == 700
    assert (seen["store_cache_away_total"], seen["store_cache_owed"]) == (1, 5)
    assert seen['store_log_queries_total{kind="append"}'] == 4
    assert [seen[f'store_redis_round_trips_total{{for="{each}"}}'] for each in ("live", "cache")] == [6, 8]
    assert [seen[f'store_bus_state{{bus="media"}}{{state="{each}"}}'] for each in BUS_STATES] == [0, 0, 1]
    counts = ("published", "received", "dropped", "gaps")
    assert [seen[f'store_bus_{name}_total{{bus="media"}}'] for name in counts] == [1, 2, 3, 4]


def test_a_cache_that_is_kept_elsewhere_has_no_size_here() -> None:
    metrics = Metrics()
    assert "store_cache_bytes" not in samples(metrics)
    metrics.follow(lambda: Readings(cache_bytes=7))
    assert samples(metrics)["store_cache_bytes"] == 7


def test_every_mode_of_health_and_every_level_of_the_cache_has_its_series() -> None:
    assert MODES == health.MODES
    assert get_args(shelf.Level) == CACHE_LEVELS
    assert get_args(WebhookState) == WEBHOOK_STATES


def test_what_became_of_events_is_read_when_asked_for() -> None:
    metrics = Metrics()
    now = EventReadings(
        waiting=1, dropped=2, purged=3, lost=4, webhook="failing", delivered=5, failed=6, behind=7, lag_s=8.5
    )
    metrics.follow(lambda: Readings(events=now))
    seen = samples(metrics)
    counted = ("events_dropped", "events_purged", "webhook_lost", "webhook_delivered", "webhook_failed")
    assert [seen[f"gateway_{name}_total"] for name in counted] == [2, 3, 4, 5, 6]
    levels = ("events_waiting", "webhook_lag_events", "webhook_lag_seconds")
    assert [seen[f"gateway_{name}"] for name in levels] == [1, 7, 8.5]
    states = [seen[f'gateway_webhook_state{{state="{each}"}}'] for each in WEBHOOK_STATES]
    assert states == [0, 0, 0, 1, 0]


def test_a_peer_cannot_make_labels() -> None:
    metrics = Metrics()
    for code in range(1000, 5000):
        metrics.closed(code)
    labels = {name for name in samples(metrics) if name.startswith("gateway_closes_total")}
    assert len(labels) == len(CloseCode) + 3  # 1005, 1006, other
    assert len(get_args(ErrorCode)) < 20


def test_two_gateways_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.closed(1000)
    assert 'gateway_closes_total{code="1000"}' not in samples(second)


def test_the_document_describes_every_metric_and_no_other() -> None:
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
    families = text_string_to_metric_families(Metrics().render()[0].decode())
    exposed = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type) for family in families
    }
    assert set(documented) == exposed
    assert len(documented) == len(set(documented))


def test_names_say_whose_they_are() -> None:
    assert all(name.startswith(("gateway_", "store_")) for name in samples(Metrics()))
