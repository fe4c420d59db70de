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
from locust import FastHttpUser, events, task  # imported first, because it patches the sockets that others import
from locust.env import Environment


class Outcomes:
    """The outcomes of the requests."""

    def __init__(self) -> None:
        """Begin without any request."""
        self.latencies: list[float] = []  # ms, of those that were answered
        self.failed = 0

    def note(self, response_time: float, exception: Exception | None, **_: Any) -> None:
        """Note one outcome; called by Locust."""
        if exception is None:
            self.latencies.append(response_time)
        else:
            self.failed += 1

    def summary(self, seconds: float) -> dict[str, float]:
        """The figures of that many seconds; latencies in ms, 0 with fewer than two of them."""
        percentiles = statistics.quantiles(self.latencies, n=100) if len(self.latencies) > 1 else [0.0] * 99
        return {
            "seconds": seconds,
            "answers": len(self.latencies),
            "failed": self.failed,
            "p50_ms": percentiles[49],
            "p90_ms": percentiles[89],
            "p99_ms": percentiles[98],
        }


def crowd(url: str, rate: float, bodies: list[bytes], sending: list[gevent.Greenlet]) -> type[FastHttpUser]:
    """A user of Locust that acts as many: it does not wait for an answer before it sends the next request.

    Args:
        url: the address to send to.
        rate: requests a second, at the times of a Poisson process.
        bodies: the bodies to send, in turn.
        sending: the list that every request is added to.
    """
    pictures = cycle(bodies)

    class Crowd(FastHttpUser):
        host = url
        concurrency = 1000
        network_timeout = connection_timeout = 60.0

        def wait_time(self) -> float:
            return random.expovariate(rate)

        @task
        def arrive(self) -> None:
            sending.append(gevent.spawn(self.client.post, url, data=next(pictures)))

    return Crowd


def run(url: str, rate: float, seconds: float, bodies: list[bytes]) -> dict[str, float]:
    """Send bodies at the times of a Poisson process; latencies in ms."""
    random.seed(0)
    outcomes, sending = Outcomes(), list[gevent.Greenlet]()
    environment = Environment(user_classes=[crowd(url, rate, bodies, sending)], events=events)
    environment.events.request.add_listener(outcomes.note)  # type: ignore[no-untyped-call]
    runner = environment.create_local_runner()
    start = time.perf_counter()
    runner.start(1, spawn_rate=1)
    gevent.sleep(seconds)
    runner.user_greenlets.kill(block=True)  # no new requests; those under way are still answered
    gevent.joinall(sending, timeout=60)
    return outcomes.summary(time.perf_counter() - start)


def main() -> None:
    """Run with the arguments of the command line."""
    url, rate, seconds, *files = sys.argv[1:]
    bodies = [Path(name).read_bytes() for name in files]
    sys.stdout.write(json.dumps(run(url, float(rate), float(seconds), bodies)) + "\n")


if __name__ == "__main__":
    main()
