"""Locust as an open loop: `python -m benchmarks.poisson <url> <rate> <seconds> <file>…` prints one line of JSON."""

import json
import random
import statistics
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, events, task  # first: it patches the sockets that others import
from locust.env import Environment


def run(url: str, rate: float, seconds: float, bodies: list[bytes]) -> dict[str, float]:
    """Send bodies at the times of a Poisson process; latencies in ms."""
    random.seed(0)
    latencies: list[float] = []
    failed = 0
    pictures = cycle(bodies)
    sending: list[gevent.Greenlet] = []

    class Crowd(FastHttpUser):
        """Stands for a crowd: it does not wait for an answer before it sends the next request."""

        host = url
        concurrency = 1000
        network_timeout = connection_timeout = 60.0

        def wait_time(self) -> float:
            return random.expovariate(rate)

        @task
        def arrive(self) -> None:
            sending.append(gevent.spawn(self.client.post, url, data=next(pictures)))

    def on_request(response_time: float, exception: Exception | None, **_: Any) -> None:
        nonlocal failed
        if exception is None:
            latencies.append(response_time)
        else:
            failed += 1

    environment = Environment(user_classes=[Crowd], events=events)
    environment.events.request.add_listener(on_request)  # type: ignore[no-untyped-call]
    runner = environment.create_local_runner()
    start = time.perf_counter()
    runner.start(1, spawn_rate=1)
    gevent.sleep(seconds)
    runner.user_greenlets.kill(block=True)  # nobody new; who is there is still served
    gevent.joinall(sending, timeout=60)
    took = time.perf_counter() - start
    percentiles = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    return {
        "seconds": took,
        "answers": len(latencies),
        "failed": failed,
        "p50_ms": percentiles[49],
        "p90_ms": percentiles[89],
        "p99_ms": percentiles[98],
    }


def main() -> None:
    """Run what the command line says."""
    url, rate, seconds, *files = sys.argv[1:]
    bodies = [Path(name).read_bytes() for name in files]
    sys.stdout.write(json.dumps(run(url, float(rate), float(seconds), bodies)) + "\n")


if __name__ == "__main__":
    main()
