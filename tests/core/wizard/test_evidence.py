"""Evidence in the conversation: asked for in the model step, told there, and the suggestion follows it."""

from sqlalchemy import select

from core.access import Actor, Place
from core.db.session import Database
from core.db.tables import LightJob, Outbox
from core.settings import Settings
from core.storage import Storage
from core.wizard.conversation import Conversation, Press
from core.wizard.screens import Facts, Text

SHOWN = [
    {
        "network": network,
        "pretraining": "imagenet-1k",
        "image_size": 96,
        "linear_probe": probe,
        "nearest_neighbours": 0.5,
        "logme": 0.1,
        "seconds": 3,
    }
    for network, probe in (("tf_efficientnet_lite1", 0.93), ("tf_efficientnet_lite0", 0.81))
]


def test_candidates_are_measured_on_request_and_the_suggestion_follows(
    database: Database, storage: Storage, settings: Settings, ada: Actor, place: Place, add_dataset
) -> None:
    woken = []
    conversation = Conversation(database, storage, settings, lambda: woken.append(True))
    screen = conversation.begin(ada, place)

    def press(action: str, value: str = "", **values: str):
        nonlocal screen
        screen = conversation.handle(ada, Press(screen.draft_id, screen.version, action, value, values))
        return "\n".join(
            block.body if isinstance(block, Text) else f"{block.title} {block.rows}"
            for block in screen.blocks
            if isinstance(block, (Text, Facts))
        )

    pets = add_dataset("pets")
    press("next")
    press("choose:task-type", "single-label")
    press("next")
    press("choose:dataset", pets.id)
    press("next")
    press("choose:preference", "1")
    assert "tf_efficientnet_lite0" in press("choose:data-type", "photo")
    assert "0 of" in press("choose:evidence")
    press("choose:evidence")
    with database.write() as session:
        (job,) = session.scalars(select(LightJob)).all()  # pressed twice, measured once
        assert session.scalars(select(Outbox)).one().job_id == job.id
        assert job.place == place.to_json()
        assert 2 <= len(job.payload["candidates"]) <= 8
        job.state, job.result = "finished", {"measured": SHOWN, "images": 100}
    assert woken
    words = press("choose:evidence")
    assert "93.0%" in words
    assert "tf_efficientnet_lite1" in words.split("Measured on your images")[0]
    assert "best of 2 candidates" in words
    assert "fits the" in words and "epochs on" in words, "time and memory are told of the measured network too"
    assert "'96" in press("next") + press("submit:name", name="Pets") + press("next"), "trained at the size that was measured"
    for _ in range(2):
        press("back")

    other = add_dataset("others")
    press("back")
    press("choose:dataset", other.id)
    assert "Measured on your images" not in press("next"), "another dataset's evidence says nothing of this one"
