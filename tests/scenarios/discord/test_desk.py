"""What people do outside the wizard: lists, models, datasets brought in, the menu on a message, help."""

import asyncio
import io
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from new_tasks import training_of
from PIL import Image
from search_jobs import Search

from core.clock import now
from core.db.tables import Dataset, Draft, LightJob, Model, Task
from core.tasks.light import claim_light_job, fail_light_job, finish_light_job
from core.vocabulary import Tuning

pytestmark = pytest.mark.asyncio


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return packed.getvalue()


def png(colour: str = "white") -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(drawn, "PNG")
    return drawn.getvalue()


@pytest.fixture
def model(world: Any) -> Model:
    model = Model(
        workspace="default",
        name="Cats and dogs",
        task_type="single-label",
        network="resnet18",
        pretraining="none",
        classes=["cat", "dog"],
        metrics={"accuracy": 0.9},
        key="models/m1",
        bytes=1000,
        created_by=f"discord:{world.ada.id}",
    )
    with world.database.write() as session:
        session.add(model)
    world.storage.write("models/m1/model.safetensors", b"weights")
    return model


def jobs(world: Any) -> list[LightJob]:
    with world.database.read() as session:
        return list(session.query(LightJob).all())


async def first_job(world: Any) -> LightJob:
    async with asyncio.timeout(60):
        while not jobs(world):
            await asyncio.sleep(0.02)
    return jobs(world)[0]


async def end_import(world: Any, job: LightJob, dataset: Any = None, error: str = "") -> None:
    """What the light worker does, without its images."""
    with world.database.write() as session:
        assert claim_light_job(session, job.id, 1, worker="w")
        if error:
            fail_light_job(session, job.id, 1, error, "Send it again.")
        else:
            finish_light_job(session, job.id, 1, {"dataset_id": dataset.id})
    await world.tick()


async def test_help_is_private_and_its_button_begins_a_conversation(world: Any, said: Any) -> None:
    helped = await world.ada.slash(world.channel, "help")
    assert helped.ephemeral and "/train" in said(helped)
    await world.ada.click(helped.response, label="Train a model")
    assert "What kind of training?" in world.words()


async def test_datasets_are_listed_looked_at_and_trained_on(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    pets = add_dataset("pets")
    for number in range(12):
        add_dataset(f"cells {number:02}")
    listed = await world.ada.slash(world.channel, "datasets")
    assert listed.ephemeral and "Datasets 1–10 of 13" in said(listed)
    more = await world.ada.click(listed.response, label="More ▶")
    assert "Datasets 11–13 of 13" in world.words(listed.response) and not more.followups, "it turns in place"
    found = await world.ada.slash(world.channel, "datasets", search="pet")
    await world.open(found, pets.id)
    assert "cat (50), dog (50)" in world.words(found.response)
    await world.ada.click(found.response, label="Train on it")
    assert "What kind of training?" in world.words()
    with world.database.read() as session:
        draft = session.query(Draft).one()
        assert draft.choices["dataset_id"] == pets.id and draft.place["thread"] == str(world.thread.id)


async def test_a_dataset_is_renamed_and_deleted_in_dialogs(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    with world.database.write() as session:
        session.add(Dataset(id="d1", workspace="default", name="mine", state="ready", created_by=f"discord:{world.ada.id}"))
    found = await world.ada.slash(world.channel, "datasets", search="mine")
    await world.open(found, "d1")
    opened = await world.ada.click(found.response, label="Rename")
    assert opened.modal["components"][0]["component"]["value"] == "mine"
    renamed = await world.ada.submit_modal(opened, {"name": "ours"})
    assert renamed.ephemeral and "Renamed to “ours”" in said(renamed)
    opened = await world.ada.click(found.response, label="Delete")
    refused = await world.ada.submit_modal(opened, {"confirmation": "delete"})
    assert refused.ephemeral and "capital letters" in said(refused)
    opened = await world.ada.click(found.response, label="Delete")
    deleted = await world.ada.submit_modal(opened, {"confirmation": "DELETE"})
    assert "Deleted the dataset" in said(deleted)
    with world.database.read() as session:
        assert session.get(Dataset, "d1") is None


async def test_an_attachment_is_imported_and_its_end_is_told(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    asked = await world.ada.slash(world.channel, "datasets", **{"import": ("pets.zip", archive(**{"cat/1.png": png()}))})
    assert asked.ephemeral and f"<#{world.thread.id}>" in said(asked) and "“pets” is being imported" in world.words()
    (job,) = jobs(world)
    assert job.payload["name"] == "pets" and world.storage.exists(job.payload["upload_key"])
    assert job.place == {"face": "discord", "channel": str(world.channel.id), "thread": str(world.thread.id)}
    await end_import(world, job, add_dataset("pets"))
    assert "The dataset “pets” is ready" in world.words() and "Train on it" in world.controls()
    assert not world.posts(world.channel), "it is nobody else's affair"


async def test_in_a_thread_an_import_stays_there(world: Any, add_dataset: Callable[..., Any]) -> None:
    await world.ada.slash(world.channel, "train")
    threads = len(world.channel.threads)
    await world.ada.slash(world.thread, "datasets", **{"import": ("pets.zip", archive(**{"cat/1.png": png()}))})
    (job,) = jobs(world)
    assert job.place["thread"] == str(world.thread.id) and len(world.channel.threads) == threads
    await end_import(world, job, add_dataset("pets"))
    assert "The dataset “pets” is ready" in world.words()


async def test_a_dialog_takes_an_archive_and_a_failed_import_says_why(world: Any, said: Any) -> None:
    listed = await world.ada.slash(world.channel, "datasets")
    opened = await world.ada.click(listed.response, label="Import a dataset")
    asked = await world.ada.submit_modal(opened, {"name": "cells", "file": [("x.zip", archive(**{"a/1.png": png()}))]})
    assert f"<#{world.thread.id}>" in said(asked) and "“cells” is being imported" in world.words()
    await end_import(world, jobs(world)[0], error="It is no archive.")
    assert "“cells” could not be imported: It is no archive. Send it again." in world.words()


async def test_what_was_typed_wrongly_can_be_mended(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    add_dataset("pets")
    listed = await world.ada.slash(world.channel, "datasets")
    opened = await world.ada.click(listed.response, label="Import a dataset")
    refused = await world.ada.submit_modal(opened, {"name": "pets", "source": "s3://bucket/pets"})
    assert refused.ephemeral and "pets" in said(refused)
    assert not world.channel.threads, "no thread is opened for what cannot be done"
    message = refused.response
    await world.restart()
    again = await world.ada.click(message, label="Mend it…")
    values = {item["component"]["custom_id"]: item["component"].get("value") for item in again.modal["components"]}
    assert values["name"] == "pets" and values["source"] == "s3://bucket/pets"


async def test_a_place_that_is_not_opened_to_chats_is_refused_privately(world: Any, said: Any) -> None:
    asked = await world.ada.slash(world.channel, "datasets", address="/etc", name="x")
    assert not jobs(world)
    assert not world.posts(world.channel)
    assert asked.ephemeral and "may not be imported from a chat" in said(asked)


async def test_the_menu_on_a_message_imports_what_it_carries(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    files = [("one.png", png()), ("two.png", png("red")), ("label.csv", b"one.png,cat\ntwo.png,dog\n")]
    message = await world.bob.send(world.channel, "look", attachments=files)
    done = await world.ada.context_menu(world.channel, "Train on these images", message)
    assert done.ephemeral and f"<#{world.thread.id}>" in said(done)
    (job,) = jobs(world)
    with zipfile.ZipFile(world.storage.open(job.payload["upload_key"])) as packed:
        assert sorted(packed.namelist()) == ["label.csv", "one.png", "two.png"]
    await end_import(world, job, add_dataset("one"))
    assert "ready" in world.words() and "Train on it" in world.controls()
    empty = await world.ada.context_menu(world.channel, "Train on these images", await world.bob.send(world.channel, "nothing"))
    assert empty.ephemeral and "no file" in said(empty)


async def test_a_model_is_tested_on_an_image_and_answers_where_it_was_asked(world: Any, model: Model, said: Any) -> None:
    listed = await world.ada.slash(world.channel, "models")
    await world.open(listed, model.id)
    opened = await world.ada.click(listed.response, label="Test an image")
    assert opened.modal["components"][0]["component"]["type"] == 19

    async def work() -> None:
        job = await first_job(world)
        world.storage.write("inference/p/picture.png", png())
        with world.database.write() as session:
            assert claim_light_job(session, job.id, 1, worker="w")
            result = {"labels": [{"label": "cat", "confidence": 0.97}], "picture_key": "inference/p/picture.png"}
            finish_light_job(session, job.id, 1, result)

    working = asyncio.create_task(work())
    answered = await world.ada.submit_modal(opened, {"file": [("cat.png", png())]})
    await working
    (answer,) = answered.followups
    assert not answer.ephemeral and "**cat** 97.0 %" in world.words(answer)
    assert [item for item in world.walk(answer.components) if item["type"] == 12]


async def test_what_a_worker_has_to_do_is_seen_to_be_under_way(world: Any, add_dataset: Callable[..., Any]) -> None:
    pets = add_dataset("pets")
    listed = await world.ada.slash(world.channel, "datasets")
    shown = await world.open(listed, pets.id)

    async def work() -> None:
        job = await first_job(world)
        world.storage.write("statistics/s.png", png())
        world.storage.write("statistics/s.json", b'{"images": 100, "cut_off": 0.5, "labels": []}')
        with world.database.write() as session:
            assert claim_light_job(session, job.id, 1, worker="w")
            finish_light_job(session, job.id, 1, {"png_key": "statistics/s.png", "json_key": "statistics/s.json"})

    working = asyncio.create_task(work())
    answered = await world.ada.click(shown.response or listed.response, label="Statistics")
    await working
    callback = [request.body for request in world.requests if request.path.endswith("/callback")][-1]
    assert callback == {"type": 5, "data": {"flags": 64}}, "thinking, seen by one person"
    assert "pets" in world.words(answered.response) and [file.filename for file in answered.response.attachments][-1].endswith(".json")


async def test_a_model_is_downloaded_and_one_too_large_has_its_path_told(
    world: Any, model: Model, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = await world.ada.slash(world.channel, "models")
    await world.open(listed, model.id)
    got = await world.ada.click(listed.response, label="Download")
    assert [attachment.filename for attachment in got.followups[0].attachments] == [f"model-{model.id}.zip"]
    import discord

    monkeypatch.setattr(discord.Interaction, "filesize_limit", property(lambda _: 20, lambda *_: None))
    got = await world.ada.click(listed.response, label="Download")
    told = world.words(got.followups[0])
    assert not got.followups[0].attachments and "more than can be sent here" in told and str(world.settings.home) in told


async def test_retraining_begins_a_conversation(world: Any, model: Model) -> None:
    listed = await world.ada.slash(world.channel, "models", search="Cats")
    await world.open(listed, model.id)
    await world.ada.click(listed.response, label="Retrain")
    with world.database.read() as session:
        assert session.query(Draft).one().choices["source_model_id"] == model.id


async def test_other_peoples_models_stay_as_they_are(world: Any, model: Model, said: Any) -> None:
    listed = await world.bob.slash(world.channel, "models")
    await world.open(listed, model.id, who=world.bob)
    opened = await world.bob.click(listed.response, label="Rename")
    refused = await world.bob.submit_modal(opened, {"name": "mine"})
    assert refused.ephemeral and "Only the person who made" in said(refused)


async def test_the_operators_lists_keep_people_and_channels_out(world: Any, said: Any) -> None:
    world.bot.office.settings.discord_people = str(world.ada.id)
    kept_out = await world.bob.slash(world.channel, "train")
    assert kept_out.ephemeral and "not on its list" in said(kept_out) and not world.channel.threads
    world.bot.office.settings.discord_channels = "1"
    kept_out = await world.ada.slash(world.channel, "tasks")
    assert kept_out.ephemeral and "certain channels only" in said(kept_out)


async def test_servers_never_see_each_others_data(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    world.bot.office.settings.workspace_per_team = True
    add_dataset("secret", workspace="discord:1")
    add_dataset("ours", workspace=f"discord:{world.guild.id}")
    listed = await world.ada.slash(world.channel, "datasets")
    assert "ours" in said(listed) and "secret" not in said(listed)


async def test_a_search_shows_its_leaderboard_and_the_curves_of_a_job(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    pets = add_dataset("pets")
    new = training_of(pets, person=f"discord:{world.ada.id}", name="Pets", plans=())
    search = Search(world.database, world.settings, new, Tuning.RANDOM, 8)
    for number in (1, 2, 3):
        search.claim(number)
        search.epoch(number, number / 10)
    listed = await world.ada.slash(world.channel, "tasks")
    await world.open(listed, search.task.id)
    await world.ada.click(listed.response, label="Leaderboard")
    text = world.words(listed.response)
    assert "Jobs 1–8 of 8, the best first" in text and "Job 3" in text
    (menu,) = [item for item in world.walk(listed.response.components) if item["type"] == 3]
    await world.ada.select(listed.response, [f"{search.task.id} 2"], custom_id=menu["custom_id"])
    assert "job 2 of 8" in world.words(listed.response) and "Best epoch" in world.words(listed.response)
    assert any(name.endswith(".png") for sent in world.requests for name, _ in sent.files)


async def test_tasks_are_searched_filtered_and_sorted(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    pets = add_dataset("pets")
    moment = now()
    with world.database.write() as session:
        for number in range(12):
            session.add(
                Task(
                    workspace="default",
                    name=f"cells {number:02}",
                    model_name=f"cells {number:02}",
                    flow="general",
                    tuning="auto",
                    seed=0,
                    settings={},
                    place={},
                    state="finished" if number % 2 else "waiting",
                    task_type="single-label",
                    dataset_id=pets.id,
                    annotation_set_id=pets.annotation_sets[0].id,
                    network="resnet18",
                    pretraining="none",
                    created_by=f"discord:{world.ada.id}",
                    created_at=moment + timedelta(minutes=number),
                    finished_at=moment - timedelta(hours=number) if number % 2 else None,
                )
            )
    listed = await world.ada.slash(world.channel, "tasks", state="finished", sort="finished", search="cells")
    text = said(listed)
    assert "Tasks 1–6 of 6: finished, named like “cells”, last ended first" in text
    assert text.index("cells 01") < text.index("cells 11") and "cells 02" not in text
    everything = await world.ada.slash(world.channel, "tasks")
    await world.ada.click(everything.response, label="More ▶")
    assert "Tasks 11–12 of 12" in world.words(everything.response)
    nothing = await world.ada.slash(world.channel, "tasks", state="error")
    assert "There is no such task: error" in said(nothing)
    names = [choice["value"] for choice in await world.ada.autocomplete(world.channel, "tasks", "search", "CELLS 0")]
    assert len(names) == 10 and "cells 03" in names and "cells 11" not in names


async def test_datasets_are_combined_through_a_dialog(world: Any, add_dataset: Callable[..., Any], said: Any) -> None:
    pets = add_dataset("pets")
    add_dataset("zoo")
    listed = await world.ada.slash(world.channel, "datasets")
    shown = await world.open(listed, pets.id)
    opened = await world.ada.click(shown.response, label="Combine")
    assert [item["component"]["custom_id"] for item in opened.modal["components"]] == ["name", "others", "only", "rename"]
    asked = await world.ada.submit_modal(opened, {"name": "animals", "others": "zoo"})
    assert f"<#{world.thread.id}>" in said(asked) and "“animals” is being made of 2 datasets" in world.words()
    assert [job.kind for job in jobs(world)] == ["combine"]
