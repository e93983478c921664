"""The stand-in for Jaeger takes what the synthetic microservice sends, and answers as Jaeger does."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from synthetic import ask, chain, running

from scripts.testbed.trace_store import Store, make_server


def span(trace: str, name: str, start_ns: int, parent: str = "") -> dict[str, Any]:
    times = {"startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + 2_000_000)}
    return {"traceId": trace, "spanId": f"{trace}{name}", "parentSpanId": parent, "name": name, "kind": 2, **times}


def request(service: str, *spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, store)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5.0) as reply:
        return json.load(reply)


def post(url: str, body: bytes) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=5.0) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_what_microservices_send_comes_back_as_one_trace(url: str) -> None:
    async def main() -> None:
        async with running(chain(), OTLP_URL=url, TRACE_SAMPLING="1") as services:
            await ask(services["a"], "/call/get/0")
            for service in services.values():
                await service.spans.send()
                assert service.metrics.lost_spans == 0

    asyncio.run(main())
    assert get(f"{url}/api/services")["data"] == ["a", "b", "c"]
    (trace,) = get(f"{url}/api/traces?service=b")["data"]
    names = {item["operationName"]: item for item in trace["spans"]}
    assert set(names) == {"A", "B", "C", "b/B", "c/C", "s/S"}
    assert names["B"]["references"] == [
        {"refType": "CHILD_OF", "traceID": trace["traceID"], "spanID": names["b/B"]["spanID"]}
    ]
    assert trace["processes"][names["B"]["processID"]]["serviceName"] == "b"
    assert {"key": "span.kind", "type": "string", "value": "server"} in names["B"]["tags"]
    assert all(item["duration"] >= 0 for item in trace["spans"])


def test_times_are_microseconds_in_the_old_api_and_nanoseconds_in_the_new(store: Store, url: str) -> None:
    store.add(request("a", span("t1", "A", 1_600_000_000_000_000_000)))
    (old,) = get(f"{url}/api/traces?service=a")["data"][0]["spans"]
    assert (old["startTime"], old["duration"]) == (1_600_000_000_000_000, 2000)
    window = "query.start_time_min=2020-09-13T12:26:39Z&query.start_time_max=2020-09-13T12:26:41Z"
    answer = get(f"{url}/api/v3/traces?query.service_name=a&{window}")
    (group,) = answer["result"]["resourceSpans"]
    assert group["scopeSpans"][0]["spans"][0]["startTimeUnixNano"] == "1600000000000000000"


def test_a_window_limits_what_is_found_and_the_newest_come_first(store: Store, url: str) -> None:
    for second in range(5):
        store.add(request("a", span(f"t{second}", "A", second * 1_000_000_000)))
    found = get(f"{url}/api/traces?service=a&start=1000000&end=3000000&limit=2")["data"]
    assert [trace["traceID"] for trace in found] == ["t3", "t2"]
    assert get(f"{url}/api/traces?service=other")["data"] == []


def test_a_trace_is_found_by_its_id_or_not_at_all(store: Store, url: str) -> None:
    store.add(request("a", span("t1", "A", 1)))
    assert get(f"{url}/api/traces/t1")["data"][0]["traceID"] == "t1"
    with pytest.raises(urllib.error.HTTPError, match="404") as missing:
        get(f"{url}/api/traces/t2")
    missing.value.close()


def test_only_the_newest_traces_are_kept() -> None:
    small = Store(limit=3)
    for number in range(5):
        small.add(request("a", span(f"t{number}", "A", number)))
    assert list(small.find("a", 0, 100, 100)) == ["t4", "t3", "t2"]


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b"{}", b'{"resourceSpans": [{}]}'])
def test_what_is_not_otlp_is_refused(url: str, body: bytes) -> None:
    assert post(f"{url}/v1/traces", body) == 400


@pytest.mark.parametrize(
    "query", ["/api/traces", "/api/v3/traces?query.service_name=a", "/api/traces?service=a&limit=x"]
)
def test_a_query_that_lacks_something_is_refused(url: str, query: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        get(url + query)
    refused.value.close()
