"""Two processes at one job learn what one learns, stay of one mind, and mend what one of them runs out of."""

import json
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import REGIONS

from core.zoo.catalogue import entries
from worker.engine.checkpoint import newest
from worker.engine.device import on_host
from worker.engine.team import Team
from worker.link import Ask
from worker.objectives.detection import Outputs
from worker.objectives.regions import RegionOutputs

ROOT = Path(__file__).parents[3]

# What each process runs: the job of a file, with a link that writes down what it is told and may ask for a pause after some askings.
MEMBER = """
import json, os, pickle, sys
import torch
from core.db.session import Database
from core.storage import Storage
from worker.engine import gradients, loop
from worker.engine.team import Several
from worker.engine.training import train
from worker.link import Ask

with open(sys.argv[1], "rb") as file:
    job, settings, options = pickle.load(file)
settings.checkpoint_seconds = options.get("checkpoint_seconds", 1e9)
team = Several()
told = {"epochs": [], "notices": [], "launched": []}
gradients.BUCKET_BYTES = options.get("bucket_bytes", gradients.BUCKET_BYTES)

class Link:
    asked_times = 0

    def asked(self):
        self.asked_times += 1
        return Ask.PAUSE if self.asked_times >= options.get("pause_at", 1e9) else Ask.GO_ON

    def pausing(self):
        return False

    def progress(self, event):
        pass

    def epoch_ended(self, number, values, **_):
        told["epochs"].append(values)

    def noticed(self, message, remedy=""):
        told["notices"].append(message)

    waits = noticed

poor, judged = options.get("images_that_fit", 1e9), options.get("judged_that_fit", 1e9)
if min(poor, judged) < 1e9 and team.rank == options["poor_rank"]:
    network, images = None, 0
    def fail_where_too_many():
        if images > poor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    def entered(module, arguments):
        global images
        if module is network and module.training:
            images = len(arguments[0])
            if not options.get("in_backward"):
                fail_where_too_many()
        elif module is network and len(arguments[0]) > judged:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    def at_the_end_of_the_backward_pass(_):
        told["launched"].append(len(team._sums._under_way))
        if options.get("in_backward"):
            fail_where_too_many()
    torch.nn.modules.module.register_module_forward_pre_hook(entered)
    real = loop.train_mode
    def noted(run):
        global network
        if network is None:
            network = run.network
            next(network.parameters()).register_hook(at_the_end_of_the_backward_pass)
        real(run)
    loop.train_mode = noted
result = train(job, database=Database.of(settings), storage=Storage.of(settings), settings=settings, link=Link(), team=team)
with open(sys.argv[1] + f".{team.rank}", "w") as file:
    json.dump({**told, "asked": result.asked, "score": result.score, "metrics": result.metrics}, file)
"""


def train_together(bench: Any, job: Any, processes: int = 2, **options: Any) -> list[dict[str, Any]]:
    """What each process was told, the leader first."""
    file = bench.folder / f"{job.task_id}-{job.generation}.pickle"
    file.write_bytes(pickle.dumps((job, bench.settings, options)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(processes):
        environment = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", MEMBER, str(file)],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for process in started:
        said, _ = process.communicate(timeout=150)
        assert process.returncode == 0, said
    return [json.loads(Path(f"{file}.{rank}").read_text()) for rank in range(processes)]


@pytest.mark.parametrize(("count", "size"), [(10, 2), (11, 2), (3, 4), (0, 2), (1, 1), (64, 3)])
def test_shares_take_each_image_once(count: int, size: int) -> None:
    seen: list[int] = []
    lengths = set()
    for rank in range(size):
        member = Team()
        member.rank, member.size = rank, size
        part = range(count)[member.share(count)]
        seen += part
        lengths.add(len(part))
    assert seen == list(range(count)) and max(lengths) - min(lengths) <= 1


def test_outputs_of_every_kind_go_to_the_leader_whole() -> None:
    with torch.inference_mode():
        outputs = Outputs(torch.tensor(0.5), [{"boxes": torch.ones(2, 4), "labels": torch.zeros(2)}], 64)
        regions = RegionOutputs(torch.tensor(0.25), torch.ones(1, 2, 8, 8))
    moved = pickle.loads(pickle.dumps(on_host({"outputs": outputs, "regions": regions, "rows": (1, torch.arange(3))})))
    assert float(moved["regions"].loss) == 0.25 and torch.equal(moved["regions"].logits, torch.ones(1, 2, 8, 8))
    assert moved["outputs"].side == 64 and float(moved["outputs"].loss) == 0.5
    assert torch.equal(moved["outputs"].found[0]["boxes"], torch.ones(2, 4))
    assert moved["rows"][0] == 1 and torch.equal(moved["rows"][1], torch.arange(3))


@pytest.mark.long
def test_two_processes_detect_as_one_does(bench: Any) -> None:
    """Losses that are means over sampled boxes differ a little between halves and a whole; the judgement is made of all images."""
    dataset = bench.squares(images=24)
    plan = {"epochs": 2, "batch_size": 6, "image_size": 64, "learning_rate": 1e-3}
    spec = next(one for one in entries() if one.network == "faster_rcnn-tf_efficientnet_lite0" and one.pretraining == "none")
    job = bench.job(dataset, task="together", spec=spec, kind="boxes", **plan)
    leader, follower = train_together(bench, job)
    assert leader["metrics"] == follower["metrics"] and len(leader["epochs"]) == 2
    _, alone = bench.train(bench.job(dataset, task="alone", spec=spec, kind="boxes", **plan))
    assert leader["epochs"][0]["train_loss"] == pytest.approx(alone.epochs[0][1]["train_loss"], rel=0.3)


def test_two_processes_mark_as_one_does(bench: Any) -> None:
    """The Dice of halves of a batch is not that of the whole: within noise the same, and as good at the end."""
    dataset = bench.squares(images=24, classes=1)
    plan = {"epochs": 8, "batch_size": 8, "image_size": 64, "learning_rate": 5e-3}
    leader, follower = train_together(bench, bench.job(dataset, task="together", spec=REGIONS, kind="instances", **plan))
    alone, link = bench.train(bench.job(dataset, task="alone", spec=REGIONS, kind="instances", **plan))
    assert leader["metrics"] == follower["metrics"]
    assert alone.score is not None and min(leader["score"], alone.score) > 0.8
    assert [values["train_loss"] for values in leader["epochs"]] == pytest.approx(
        [values["train_loss"] for _, values in link.epochs], rel=0.2
    )


@pytest.mark.long
def test_two_processes_learn_what_one_learns(bench: Any) -> None:
    """Batch normalisation sees halves of batches: within noise the same, and as good at the end."""
    dataset = bench.stripes(per_class=60)
    plan = {"epochs": 4, "batch_size": 32, "ema_decay": 0.9, "rotation": True, "rotation_degrees": 5, "colour_jitter": True}
    alone, link = bench.train(bench.job(dataset, task="alone", **plan))
    job = bench.job(dataset, task="together", **plan)
    leader, follower = train_together(bench, job)
    assert [values["train_loss"] for values in leader["epochs"]] == pytest.approx(
        [values["train_loss"] for _, values in link.epochs], abs=0.15
    )
    assert alone.score is not None and leader["score"] >= alone.score - 0.1
    assert (leader["score"], leader["metrics"]) == (follower["score"], follower["metrics"]), "all are of one mind"
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and saved.best is not None and saved.best.details["rows"].numel() == 30
    assert all(not name.startswith("module.") for name in saved.state["network"])


def test_without_batch_statistics_they_learn_exactly_the_same(bench: Any) -> None:
    """A network with layer normalisation: only the order of additions differs."""
    dataset = bench.stripes(per_class=20)
    plan = {"epochs": 2, "batch_size": 9, "image_size": 160, "optimizer": "sgd", "learning_rate": 0.01, "resized_crop": True}
    spec = replace(bench.job(dataset).spec, network="test_vit")
    _, alone = bench.train(bench.job(dataset, task="alone", spec=spec, **plan))
    leader, _ = train_together(bench, bench.job(dataset, task="together", spec=spec, **plan))
    for name in ("train_loss", "val_loss"):
        assert [values[name] for values in leader["epochs"]] == pytest.approx([values[name] for _, values in alone.epochs], rel=1e-4), name


@pytest.mark.long
def test_a_pause_is_heard_by_all_and_the_resumed_training_ends_as_an_unbroken_one(bench: Any) -> None:
    dataset = bench.stripes()
    whole = train_together(bench, bench.job(dataset, task="whole"))
    job = bench.job(dataset, task="broken")
    paused = train_together(bench, job, pause_at=5, checkpoint_seconds=1e-6)
    assert [one["asked"] for one in paused] == [Ask.PAUSE, Ask.PAUSE]
    resumed = train_together(bench, replace(job, generation=2))
    assert resumed[0]["metrics"] == whole[0]["metrics"]
    states = [newest(bench.storage, bench.job(dataset, task=task).checkpoint_folder) for task in ("whole", "broken")]
    assert states[0] is not None and states[1] is not None
    for name, tensor in states[0].state["network"].items():
        resumed_tensor = states[1].state["network"][name]
        if name.rpartition(".")[2] in ("running_mean", "running_var"):  # averaged over the team once more at the pause: rounded once more
            torch.testing.assert_close(resumed_tensor, tensor, msg=name)
        else:
            assert torch.equal(tensor, resumed_tensor), name


@pytest.mark.parametrize(
    ("poor_rank", "in_backward"), [(1, True), pytest.param(1, False, marks=pytest.mark.long), pytest.param(0, True, marks=pytest.mark.long)]
)
def test_what_one_has_no_memory_for_all_do_in_smaller_parts(bench: Any, poor_rank: int, in_backward: bool) -> None:
    """Also where memory runs out at the end of the backward pass, in the first layer: by then the sums of later layers are under way."""
    job = bench.job(bench.stripes(), epochs=2)
    leader, follower = train_together(bench, job, images_that_fit=2, poor_rank=poor_rank, in_backward=in_backward, bucket_bytes=2_000)
    launched = (leader, follower)[poor_rank]["launched"]  # of each pass: those of a batch's first parts launch none
    # Where memory runs out before it, the first pass there is belongs to a first part.
    assert (launched[0] > 3) == in_backward and max(launched[-4:]) > 3
    assert leader["score"] is not None and leader["metrics"] == follower["metrics"]
    for one in (leader, follower):
        assert "2 at a time" in [notice for notice in one["notices"] if "out of memory" in notice][-1]
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and saved.state["state"]["accumulation"] == 4


@pytest.mark.long
def test_what_one_has_no_memory_to_judge_all_judge_in_smaller_parts(bench: Any) -> None:
    job = bench.job(bench.stripes(), epochs=2, batch_size=4)  # 12 validation images in three batches: each process has one at first
    leader, follower = train_together(bench, job, judged_that_fit=1, poor_rank=1)
    assert leader["score"] is not None and leader["metrics"] == follower["metrics"]
    for one in (leader, follower):
        assert [notice for notice in one["notices"] if "while judging" in notice][-1].endswith(" 1 at a time.")
    saved = newest(bench.storage, job.checkpoint_folder)
    assert saved is not None and saved.state["state"]["accumulation"] == 1
