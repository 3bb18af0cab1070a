"""How soon Slack's presses are acknowledged with 100 people at once. Prints one line of JSON; exit code 1 at 1 s or more (99th percentile).

    python benchmarks/slack_acknowledgement.py [--people 100] [--rounds 5] [--http]

The bot is a process of its own (`stationmaster bot`), connected over HTTP and WebSocket to a local server that speaks Slack's Web API and Socket
Mode; with `--http` that server sends signed requests to the bot's port instead. Everybody sends `/train` at the same moment, then everybody presses, over and over; beside the acknowledgement, `screen_s` is when the
last of a round sees the next screen. Server and bot share the machine's cores.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 1.0
PATIENCE_SECONDS = 120.0


def wait_until(condition: Any, what: str) -> float:
    """Seconds until `condition()` holds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise SystemExit(f"{what} did not come to pass in {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def measure(count: int, rounds: int, *, http: bool = False) -> dict[str, Any]:
    """All acknowledgements' seconds, and of each round the seconds until the last screen."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]
    from slack_person import Person
    from slack_server import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET, FakeSlack

    with tempfile.TemporaryDirectory() as folder, FakeSlack() as slack:
        people = []
        for number in range(count):
            user = slack.add_user(f"U{number:07}", f"Person{number}")
            slack.add_channel(f"C{number:07}", f"room-{number}")
            people.append(Person(slack, lambda: None, user, f"C{number:07}"))
        environment = os.environ | {
            "STATIONMASTER_HOME": f"{folder}/home",
            "STATIONMASTER_SLACK_API_URL": slack.api_url,
            "STATIONMASTER_SLACK_BOT_TOKEN": BOT_TOKEN,
            "STATIONMASTER_LOG_LEVEL": "ERROR",
        }
        port = free_port()
        if http:
            slack.request_url = f"http://127.0.0.1:{port}/slack/events"
            environment |= {"STATIONMASTER_SLACK_SIGNING_SECRET": SIGNING_SECRET, "STATIONMASTER_SLACK_PORT": str(port)}
        else:
            environment["STATIONMASTER_SLACK_APP_TOKEN"] = APP_TOKEN
        bot = subprocess.Popen([sys.executable, "-m", "bot", "bot"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            wait_until((lambda: listens(port)) if http else slack.connected, "the bot's connection")
            acknowledged, screens = [], []

            def all_at_once(payloads: list[tuple[str, dict[str, Any]]], done: Any) -> None:
                acknowledged.extend(answer.seconds for answer in slack.send_all(payloads, PATIENCE_SECONDS))
                screens.append(wait_until(done, "the next screen"))

            def titles() -> list[str]:
                return [_title(person) for person in people]

            all_at_once([person.command_payload("/train") for person in people], lambda: all(titles()))
            for number in range(rounds):
                before = titles()
                button = "Back" if number % 2 else "Next"
                all_at_once(
                    [person.press_payload(button) for person in people],
                    lambda before=before: all(now != then for now, then in zip(titles(), before, strict=True)),
                )
            assert slack.violations == [], slack.violations[:3]
        finally:
            bot.terminate()
            bot.wait(60)
    acknowledged.sort()
    return {
        "benchmark": "slack acknowledgement",
        "over": "http" if http else "socket mode",
        "people": count,
        "presses": len(acknowledged),
        "limit_s": LIMIT_SECONDS,
        "p50_s": round(acknowledged[len(acknowledged) // 2], 3),
        "p99_s": round(acknowledged[int(len(acknowledged) * 0.99)], 3),
        "max_s": round(acknowledged[-1], 3),
        "screen_s": [round(seconds, 2) for seconds in screens],
    }


def _title(person: Any) -> str:
    try:
        screen = person.screen()
    except StopIteration:
        return ""
    return str(next(block for block in screen["blocks"] if block["type"] == "header")["text"]["text"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--http", action="store_true")
    options = parser.parse_args()
    result = measure(options.people, options.rounds, http=options.http)
    print(json.dumps(result))
    sys.exit(result["p99_s"] >= LIMIT_SECONDS)


if __name__ == "__main__":
    main()
