"""Over HTTP: signed requests to the bot's port; many teams that install the app, see nothing of each other, and remove it again."""

import html
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from new_tasks import training_of
from pydantic import SecretStr
from slack_bot import Bot
from slack_person import Person, labels, read
from slack_server import CLIENT_ID, CLIENT_SECRET, SIGNING_SECRET, SLACK_WAITS, FakeSlack
from sqlalchemy import select

from bot.slack.app import start
from core.access import Place
from core.db.session import Database
from core.db.tables import Draft, SlackInstallation, Task
from core.errors import UnavailableError
from core.settings import Settings
from core.storage import Storage
from core.tasks.creation import create_task
from core.tasks.hyperparameters import TrainingPlan

OVER_HTTP = {"slack_app_token": SecretStr(""), "slack_signing_secret": SecretStr(SIGNING_SECRET), "slack_port": 0}
FOR_MANY = OVER_HTTP | {
    "slack_bot_token": SecretStr(""),
    "slack_client_id": CLIENT_ID,
    "slack_client_secret": SecretStr(CLIENT_SECRET),
}
FIRST, SECOND = "T0000FAKE", "T0000NEXT"


def address(bot: Bot) -> str:
    return f"http://127.0.0.1:{bot.face.connection.port}/slack"  # type: ignore[union-attr]


class Browser:
    """Somebody who installs the app: cookies are kept, redirections are followed only when asked."""

    def __init__(self) -> None:
        self.opener = urllib.request.build_opener(NoRedirections())
        # The bot's cookie is for https alone; there is no TLS between here and the bot, as there is none behind a proxy.
        self.sent: dict[str, str] = {}

    def get(self, url: str) -> tuple[int, str, str]:
        """Status, body and where one is sent to."""
        request = urllib.request.Request(url, headers={"Cookie": "; ".join(f"{name}={value}" for name, value in self.sent.items())})
        try:
            with self.opener.open(request, timeout=10) as answer:
                return self._answer(answer)
        except urllib.error.HTTPError as error:
            return self._answer(error)

    def _answer(self, answer: Any) -> tuple[int, str, str]:
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self.sent[name] = value
        return answer.status, answer.read().decode(), answer.headers.get("Location", "")


class NoRedirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@pytest.fixture
def over_http(slack: FakeSlack, start_bot: Callable[..., Bot]) -> Bot:
    bot = start_bot(**OVER_HTTP)
    slack.request_url = f"{address(bot)}/events"
    return bot


@pytest.fixture
def for_many(slack: FakeSlack, start_bot: Callable[..., Bot]) -> Bot:
    slack.tokens.clear()
    slack.add_team(SECOND, ("U0000NEXT", "Nell"), ("U0000NINA", "Nina"))
    bot = start_bot(**FOR_MANY)
    slack.request_url, slack.redirect_url = f"{address(bot)}/events", f"{address(bot)}/oauth_redirect"
    return bot


def install(slack: FakeSlack, bot: Bot, team: str, browser: Browser | None = None) -> tuple[int, str]:
    """From the install page over Slack's own back to the bot; status and words of the page at the end."""
    browser = browser or Browser()
    slack.installing = team
    status, page, _ = browser.get(f"{address(bot)}/install")
    assert status == 200
    consent = html.unescape(re.findall(r'href="(http[^"]+)"', page)[0])
    assert urlsplit(consent).path == "/oauth/v2/authorize" and consent.startswith(slack.url)
    assert "chat:write" in parse_qs(urlsplit(consent).query)["scope"][0]
    _, _, back = browser.get(consent)
    status, page, _ = browser.get(back)
    return status, page


def member(slack: FakeSlack, bot: Bot, user: str = "U0000NEXT", channel: str = "C0000NEXT") -> Person:
    return Person(slack, bot.settle, user, channel)


def test_a_conversation_over_http_to_start(slack: FakeSlack, over_http: Bot, add_dataset: Any, database: Database) -> None:
    add_dataset("pets")
    person = Person(slack, over_http.settle)
    person.command("/train", "classification pets")
    person.press("Next")
    person.choose("choose:data-type", "Photographs")
    person.press("Next")
    person.press("Edit names")
    assert person.fill(name="").payload == {
        "response_action": "errors",
        "errors": {"field:name": "Task name must not be empty."},
    }
    assert person.fill(name="Over HTTP").payload is None
    person.press("Next")
    person.press("Start")
    with database.read() as session:
        assert session.scalars(select(Task)).one().name == "Over HTTP"
    person.mention("tasks")
    assert any("Over HTTP" in item for item in person.told())
    assert all(answer.status == 200 and answer.seconds < SLACK_WAITS for answer in person.acknowledged)


def test_a_port_that_is_taken_is_named(over_http: Bot, slack_settings: Settings, database: Database, storage: Storage) -> None:
    port = over_http.face.connection.port  # type: ignore[union-attr]
    with pytest.raises(UnavailableError, match=f"cannot be awaited on port {port}") as refused:
        start(slack_settings.model_copy(update=OVER_HTTP | {"slack_port": port}), database, storage)
    assert "STATIONMASTER_SLACK_PORT" in refused.value.remedy


def test_slack_checks_the_address_by_a_challenge(slack: FakeSlack, over_http: Bot) -> None:
    answer = slack.send("events_api", {"type": "url_verification", "token": "x", "challenge": "are you there"})
    assert answer.status == 200 and "are you there" in str(answer.payload)


def test_two_teams_install_the_app_and_see_nothing_of_each_other(
    slack: FakeSlack, for_many: Bot, add_dataset: Any, database: Database
) -> None:
    for team in (FIRST, SECOND):
        status, page = install(slack, for_many, team)
        assert status == 200 and "Thank you" in page
    add_dataset("secret pets", workspace=f"slack:{FIRST}")
    ada, nell = Person(slack, for_many.settle), member(slack, for_many)
    ada.command("/train", "classification secret pets")
    assert "secret pets" in ada.read()
    nell.command("/train", "classification secret pets")
    assert "No dataset here" in nell.read() and "secret pets" not in nell.read()
    nell.command("/datasets")
    assert any("No dataset yet" in item for item in nell.told())
    with database.read() as session:
        before = {draft.workspace: draft.version for draft in session.scalars(select(Draft))}
    assert set(before) == {f"slack:{FIRST}", f"slack:{SECOND}"}
    # A button of the other team's message, with all its ids.
    kind, payload = nell.press_payload("Next", ada.screen())
    payload["container"]["channel_id"] = payload["channel"]["id"] = nell.channel
    slack.send(kind, payload)
    for_many.settle()
    with database.read() as session:
        assert {draft.workspace: draft.version for draft in session.scalars(select(Draft))} == before
    assert any("no longer known here" in item for item in nell.told())


@pytest.mark.parametrize("event", [{"type": "app_uninstalled"}, {"type": "tokens_revoked", "tokens": {"oauth": [], "bot": ["U0000BOT"]}}])
def test_a_team_that_removes_the_app_is_forgotten_at_once_and_may_come_back(
    slack: FakeSlack, start_bot: Callable[..., Bot], database: Database, event: dict[str, Any]
) -> None:
    # With an allow-list: what concerns a whole team comes from nobody on it.
    slack.tokens.clear()
    slack.add_team(SECOND, ("U0000NEXT", "Nell"))
    bot = start_bot(**FOR_MANY, slack_people="U0000NEXT, U0000ADA")
    slack.request_url, slack.redirect_url = f"{address(bot)}/events", f"{address(bot)}/oauth_redirect"
    install(slack, bot, FIRST)
    install(slack, bot, SECOND)
    ada, nell = Person(slack, bot.settle), member(slack, bot)
    nell.command("/train")
    assert "What kind of training?" in nell.read()
    for token in [token for token, team in slack.tokens.items() if team == SECOND]:
        del slack.tokens[token]
    nell.event(event)
    with database.read() as session:
        assert [row.team_id for row in session.scalars(select(SlackInstallation))] == [FIRST]
    calls = len(slack.calls)
    answer = nell.command("/train")
    assert answer.status == 200 and len(slack.calls) == calls  # its dead token is not even tried
    assert any("not installed in this workspace any more" in item for item in nell.told())
    ada.command("/train")
    assert "What kind of training?" in ada.read()
    install(slack, bot, SECOND)
    nell.command("/train")
    assert len(slack.messages(nell.channel)) == 2


def test_threads_of_each_team_are_told_with_its_own_token(
    slack: FakeSlack, for_many: Bot, add_dataset: Any, database: Database, settings: Settings
) -> None:
    places = []
    for team, channel, user in ((FIRST, "C0000MAIN", "U0000ADA"), (SECOND, "C0000NEXT", "U0000NEXT")):
        install(slack, for_many, team)
        dataset = add_dataset("pets", workspace=f"slack:{team}")
        places.append(Place("slack", f"{team}/{channel}", slack.say(channel, user, "go")["ts"]))
        with database.write() as session:
            new = training_of(
                dataset,
                workspace=f"slack:{team}",
                person=f"slack:{user}",
                name=f"Pets of {team}",
                plans=[TrainingPlan(image_size=64)],
                place=places[-1],
            )
            create_task(session, settings, new)
    # The first team has removed the app while its training waits: the second is told all the same.
    person = Person(slack, for_many.settle)
    person.event({"type": "app_uninstalled"})
    for_many.notifier.tick()
    assert slack.messages("C0000MAIN", places[0].thread) == []
    (told,) = slack.messages("C0000NEXT", places[1].thread)
    assert f"Pets of {SECOND}" in read(told) and "Details" in labels(told)


def test_an_installation_that_was_not_begun_here_is_refused(slack: FakeSlack, for_many: Bot, database: Database) -> None:
    browser = Browser()
    slack.codes["code-stolen"] = SECOND
    status, page, _ = browser.get(f"{slack.redirect_url}?code=code-stolen&state=guessed")
    assert status == 400 and "Thank you" not in page
    # The state of another browser's, and one that has been used.
    install(slack, for_many, FIRST, browser)
    slack.codes["code-again"] = SECOND
    state = browser.sent["slack-app-oauth-state"]
    assert Browser().get(f"{slack.redirect_url}?code=code-again&state={state}")[0] == 400
    assert browser.get(f"{slack.redirect_url}?code=code-again&state={state}")[0] in (400, 401)
    assert browser.get(f"{slack.redirect_url}?error=access_denied")[0] == 200
    with database.read() as session:
        assert [row.team_id for row in session.scalars(select(SlackInstallation))] == [FIRST]
