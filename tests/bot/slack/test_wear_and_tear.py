"""What happens to bots in real life: double clicks, redelivery, restarts, other people, lost messages, limits, hostile names."""

from installation import wait_until
from slack_person import Person, labels, read
from sqlalchemy import func, select

import bot.slack.connections
from core.db.session import Database
from core.db.tables import Draft, Task
from core.errors import ConflictError


def count(database: Database, table: type) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def to_review(person: Person, dataset: str) -> None:
    person.command("/train", f"classification {dataset}")
    person.press("Next")
    person.choose("choose:data-type", "Photographs")
    person.press("Next")
    person.press("Next")
    assert "Everything right?" in person.read()


def test_two_presses_on_start_make_one_task(person: Person, add_dataset, database: Database) -> None:
    add_dataset("pets")
    to_review(person, "pets")
    pressed = person.press_payload("Start")
    again = person.press_payload("Start")  # a second click on the same message
    person.slack.send_all([pressed, again])
    person.settle()
    assert count(database, Task) == 1
    assert person.told() == []


def test_a_command_delivered_twice_begins_one_conversation(person: Person, database: Database) -> None:
    payload = person.command_payload("/train", "")
    person.again(*payload, retry=0)
    person.again(*payload)
    assert count(database, Draft) == 1
    assert len(person.slack.messages(person.channel)) == 1


def test_after_a_restart_the_old_buttons_go_on(person: Person, running, add_dataset) -> None:
    add_dataset("pets")
    person.command("/train", "classification")
    running.restart()
    person.settle = running.settle
    person.choose("choose:dataset", "pets")
    person.press("Next")
    assert "Which network?" in person.read()


def test_a_stale_press_changes_nothing_and_is_answered_privately(person: Person, add_dataset) -> None:
    add_dataset("pets")
    person.command("/train")
    old = person.press_payload("Cancel")
    person.press("Next")
    person.again(*old, retry=0)
    assert "What shall the model do?" in person.read()
    assert any("moved on" in item for item in person.told())
    assert "moved on" not in person.read()


def test_only_the_requester_or_an_admin_may_press(person: Person, grace_at_slack: Person, root: Person) -> None:
    person.command("/train")
    grace_at_slack.press("Next", person.screen())
    assert "What kind of training?" in person.read()
    assert any("belongs to Ada" in item for item in grace_at_slack.told())
    assert person.told() == []
    root.press("Next", person.screen())
    assert "What shall the model do?" in person.read()


def test_a_deleted_wizard_message_is_posted_again(person: Person) -> None:
    person.command("/train")
    payload = person.press_payload("Next")
    channel = person.slack.channels[person.channel]
    channel.messages = [item for item in channel.messages if item["ts"] != person.screen()["ts"]]
    person.again(*payload, retry=0)
    assert "What shall the model do?" in person.read()


def test_a_channel_without_the_bot_says_how_to_invite_it(person: Person, database: Database) -> None:
    person.channel = "C0000OUT"
    person.command("/train")
    assert any("/invite @Stationmaster" in item for item in person.told())
    assert count(database, Draft) == 0


def test_slash_commands_in_a_thread_are_explained(person: Person) -> None:
    first = person.say("look at these")
    person.say("/train detection", thread=first["ts"])
    assert any("do not work in threads" in item for item in person.told())


def test_a_429_is_obeyed(person: Person) -> None:
    person.slack.fail("chat.postMessage", retry_after=1)
    person.command("/train")
    assert "What kind of training?" in person.read()


def test_hostile_names_are_escaped_and_mention_nobody(person: Person, add_dataset) -> None:
    # The local Slack refuses every text with unescaped control characters.
    name = "<!channel> & <@U0000GRACE> *x* <http://evil|click>"
    add_dataset(name)
    add_dataset("a" * 100)
    to_review(person, name)
    person.press("Back")
    person.press("Edit names")
    person.fill(name="<!here> & co", description="`<@U1>`")
    assert "<!here> & co" in person.read()
    assert all("<!channel>" not in str(item) for item in person.slack.channels[person.channel].messages)


def test_wrong_values_are_marked_at_their_field_and_right_ones_taken(person: Person, add_dataset) -> None:
    add_dataset("pets")
    person.command("/train", "classification pets")
    person.press("Next")
    person.choose("choose:selection", "Manual")
    person.choose("choose:family", "ResNet")
    person.choose("choose:network", "resnet18")
    person.choose("choose:pretraining", "None")
    person.press("Next")
    person.choose("choose:tuning", "Manual")
    person.press("Data loader")
    answer = person.fill(epochs="201", batch_size="x")
    assert answer.payload is not None and answer.payload["response_action"] == "errors"
    assert set(answer.payload["errors"]) == {"field:epochs", "field:batch_size"}
    assert answer.payload["errors"]["field:epochs"] == "Training epochs (epochs) takes an integer from 1 to 200; “201” was given."
    assert person.fill(epochs="7", batch_size="auto").payload in (None, {})
    assert "Training epochs  7" in person.read().replace("*", "")
    person.press("Augmentation")
    person.fill(rotation="off", hue="0.25")
    assert "Hue  0.25" in person.read().replace("*", "") and "Random rotation  off" in person.read().replace("*", "")


def test_a_long_list_is_searched(person: Person, add_dataset) -> None:
    for number in range(130):
        add_dataset(f"set {number:03d}")
    person.command("/train", "classification")
    assert len(person.search("choose:dataset", "")) == 100
    assert [item["text"]["text"] for item in person.search("choose:dataset", "set 12")] == [f"set {number}" for number in range(120, 130)]
    person.choose("choose:dataset", "set 125")
    assert "set 125" in person.read()


def test_the_operators_lists_are_kept(start_bot, slack, database: Database) -> None:
    bot = start_bot(slack_people="U0000ADA", slack_channels="C0000MAIN")
    grace = Person(slack, bot.settle, "U0000GRACE")
    grace.command("/train")
    assert any("certain people" in item for item in grace.told())
    assert count(database, Draft) == 0
    ada = Person(slack, bot.settle)
    ada.channel = slack.direct("U0000ADA").id
    ada.command("/train")
    assert any("certain channels" in item for item in ada.told())
    ada.channel = "C0000MAIN"
    ada.command("/train")
    assert count(database, Draft) == 1


def test_direct_messages_work_as_channels_do(person: Person, add_dataset) -> None:
    add_dataset("pets")
    person.channel = person.slack.direct(person.user).id
    person.say("train classification pets")
    person.press("Next")
    assert "Which network?" in person.read()


def test_a_mention_begins_in_its_own_thread_once(person: Person, database: Database) -> None:
    message = person.mention("train detection")
    assert "Which dataset?" in read(person.screen(message["ts"]))
    assert count(database, Draft) == 1
    person.mention("tasks")
    assert any("No training yet" in item for item in person.told())


def test_the_connection_comes_back(start_bot, slack, monkeypatch) -> None:
    monkeypatch.setattr(bot.slack.connections, "PING_SECONDS", 1)
    person = Person(slack, start_bot().settle)
    slack.drop_connections()
    wait_until(slack.connected, 60)
    person.command("/train")
    assert "What kind of training?" in person.read()


def test_a_step_that_the_database_cannot_take_is_told_and_can_be_pressed_again(person: Person, running, monkeypatch) -> None:
    person.command("/train")
    conversation = running.face.board.conversation
    honest = conversation.handle

    def refuse(*_: object) -> None:
        raise ConflictError("The database is busy.", "Try again.")

    monkeypatch.setattr(conversation, "handle", refuse)
    person.press("Next")
    assert any("busy" in item for item in person.told())
    monkeypatch.setattr(conversation, "handle", honest)
    person.press("Next")
    assert "What shall the model do?" in person.read()
    assert "Back" in labels(person.screen())


def test_one_person_may_have_so_many_tasks_waiting(start_bot, slack, add_dataset, database: Database) -> None:
    add_dataset("pets")
    bot = start_bot(max_waiting_tasks=1)
    ada, grace = Person(slack, bot.settle), Person(slack, bot.settle, "U0000GRACE")
    for _ in range(2):
        to_review(ada, "pets")
        ada.press("Start")
    assert count(database, Task) == 1
    assert "waiting" in ada.read() and "Start" in labels(ada.screen()), "said on the screen, from which one can try again"
    to_review(grace, "pets")
    grace.press("Start")
    assert count(database, Task) == 2


def test_where_no_dataset_fits_it_is_said_what_to_do_in_slack(person: Person) -> None:
    person.command("/train", "detection")
    assert "Send a zip here" in person.read() and "stationmaster dataset import" not in person.read()


def test_a_dataset_that_is_not_there_is_asked_for_and_said(person: Person, add_dataset) -> None:
    add_dataset("cells", "boxes")
    person.command("/train", "detection cels")
    assert any("cels" in item for item in person.told())
    assert "Which dataset?" in person.read()
    person.command("/train", "detection cells")
    assert "cells" in person.read() and "100" in person.read()


def test_guests_of_another_company_are_kept_out(person: Person, slack, running, database: Database) -> None:
    slack.add_user("U000GUEST", "Guest", is_stranger=True)
    guest = Person(slack, running.settle, "U000GUEST")
    guest.command("/train")
    assert any("another company" in item for item in guest.told())
    assert count(database, Draft) == 0


def test_the_operators_admins_may_do_as_slacks_do(start_bot, slack, add_dataset) -> None:
    bot = start_bot(slack_admins="U0000GRACE")
    ada, grace = Person(slack, bot.settle), Person(slack, bot.settle, "U0000GRACE")
    ada.command("/train")
    grace.press("Next", ada.screen())
    assert "What shall the model do?" in ada.read()


def test_a_conversation_in_an_archived_channel_is_answered_directly(person: Person) -> None:
    person.command("/train")
    person.slack.channels[person.channel].archived = True
    person.press("Next")
    direct = person.slack.messages(person.slack.direct(person.user).id)
    assert direct or person.told(), "nobody is left without an answer"


def test_a_press_after_its_trigger_has_expired_says_so(person: Person, add_dataset) -> None:
    add_dataset("pets")
    to_review(person, "pets")
    person.press("Back")
    kind, payload = person.press_payload("Edit names")
    person.slack.triggers[payload["trigger_id"]] -= 10
    person.again(kind, payload, retry=0)
    assert any("Press again" in item for item in person.told())
