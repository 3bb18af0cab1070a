"""The wizard in Slack, over real HTTP and a real WebSocket: one message that changes, from /train to Start."""

from slack_person import Person, labels, read
from slack_server import SLACK_WAITS


def to_review(person: Person, dataset: str) -> None:
    person.command("/train")
    person.press("Next")
    person.choose("choose:task-type", "Single-label")
    person.press("Next")
    person.choose("choose:dataset", dataset)
    person.press("Next")
    person.choose("choose:data-type", "Photographs")
    person.press("Next")
    person.press("Next")


def test_from_train_to_start_in_one_message_of_a_thread(person: Person, add_dataset) -> None:
    add_dataset("pets")
    to_review(person, "pets")
    assert "Everything right?" in person.read()
    person.press("Start")
    assert "in the queue" in person.read()
    assert labels(person.screen()) == []
    thread = person.slack.messages(person.channel, person.thread())
    assert len(thread) == 1
    assert len(person.slack.messages(person.channel)) == 1
    assert all(item.seconds < SLACK_WAITS for item in person.acknowledged)
    assert "pets" in read(person.screen())
