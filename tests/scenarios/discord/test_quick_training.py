"""The whole way with a real training that takes seconds, done in the test's own process; `test_real_training.py` has workers, and every task type."""

from typing import Any

import pytest
from discord_journey import Journey
from drawn_archives import archive_of
from sqlalchemy import select

from core.db.tables import Job, LightJob
from core.settings import Settings
from core.vocabulary import TaskType
from worker.jobs import run_training
from worker.light import run_light

pytestmark = pytest.mark.asyncio


@pytest.fixture
def journey(world: Any, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Journey:
    monkeypatch.setenv("STATIONMASTER_HOME", str(settings.home))

    def work() -> None:
        for table, run in ((LightJob, run_light), (Job, run_training)):
            with world.database.read() as session:
                waiting = session.execute(select(table.id, table.generation).where(table.state == "waiting")).all()
            for job_id, generation in waiting:
                run(job_id, generation)

    return Journey(world, work)


async def test_from_an_archive_to_a_model_that_is_taken_home(world: Any, journey: Journey) -> None:
    dataset = await journey.send("light", archive_of(TaskType.SINGLE_LABEL, 16))
    await world.ada.slash(world.channel, "train", task_type="single-label", dataset=dataset.id)
    await world.click("Next")
    await world.restart()
    await journey.network("MobileNet", "mobilenetv3_small_050")
    await journey.values(epochs="2", batch_size="8", image_size="32")
    await journey.start("Dark or bright")
    task = await journey.result("Dark or bright", "Curves", "Confusion matrix")
    result = world.wizard
    got = await world.click("Download", where=result)
    assert [file.filename for file in got.followups[0].attachments] == [f"model-{task.model_id}.zip"]
    details = await world.click("Details", where=result)
    reported = await world.ada.click(details.followups[0], label="Training report")
    assert [file.filename for file in reported.followups[0].attachments] == [f"training-report-{task.id}.pdf"]
