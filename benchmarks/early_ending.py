"""What ending hopeless jobs early costs and saves: a finished random search's whole curves, played again by the rule.

    stationmaster task create --name whole … --tuning random --set jobs=24 --set early_stop=off --wait
    python benchmarks/early_ending.py whole [--jobs 8] [--workers 2] [--searches 400]

Each replay draws so many of the jobs, in an order of its own, and lets the workers train them epoch by epoch until the rule
(`core.tuning.halving`) ends them. Prints one line of JSON: how often the best of the drawn jobs was ended, how much score that cost on
average and at the 95th percentile, and which share of the epochs was trained.
"""

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from core.db.session import Database
from core.settings import Settings
from core.tasks.listing import find_task
from core.tuning.halving import is_hopeless
from core.tuning.scores import curves

Curve = dict[int, float]


def replay(whole: dict[int, Curve], epochs: int, workers: int) -> tuple[float, int]:
    """The best score of one search that takes the jobs in their order, and how many epochs it trained."""
    waiting, held = list(whole), []
    seen: dict[int, Curve] = {}
    while waiting or held:
        while waiting and len(held) < workers:
            held.append(waiting.pop(0))
            seen[held[-1]] = {}
        for job in list(held):
            epoch = len(seen[job]) + 1
            seen[job][epoch] = whole[job][epoch]
            if epoch == epochs or is_hopeless(seen, job, epochs):
                held.remove(job)
    return max(max(curve.values()) for curve in seen.values()), sum(map(len, seen.values()))


def measure(task: str, jobs: int, workers: int, searches: int) -> dict[str, object]:
    """Replay many searches over the curves of a task."""
    with Database.of(Settings()).read() as session:
        found = curves(session, find_task(session, "default", task).id, 10_000)
    epochs = max(map(len, found.values()))
    whole = {number: curve for number, curve in found.items() if len(curve) == epochs}
    chance = random.Random(0)
    lost, shares = [], []
    for _ in range(searches):
        drawn = {number: whole[number] for number in chance.sample(sorted(whole), min(jobs, len(whole)))}
        best, trained = replay(drawn, epochs, workers)
        lost.append(max(max(curve.values()) for curve in drawn.values()) - best)
        shares.append(trained / (epochs * len(drawn)))
    return {
        "benchmark": "early_ending",
        "curves": len(whole),
        "epochs": epochs,
        "jobs": jobs,
        "workers": workers,
        "best_job_ended": round(statistics.mean(loss > 0 for loss in lost), 3),
        "score_lost_mean": round(statistics.mean(lost), 4),
        "score_lost_95th": round(sorted(lost)[int(0.95 * len(lost))], 4),
        "epochs_trained": round(statistics.mean(shares), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--searches", type=int, default=400)
    given = parser.parse_args()
    print(json.dumps(measure(given.task, given.jobs, given.workers, given.searches)))
