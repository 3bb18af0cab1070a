"""The seam: the whole app without network and tokens; requests dispatched to it as Slack sends them."""

import socket
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr
from slack_bolt import App, BoltRequest
from slack_sdk import WebClient
from slack_sdk.web import SlackResponse
from slack_server import SIGNING_SECRET, signature

from bot.slack.app import create_app, start
from core.db.session import Database
from core.errors import InvalidInputError
from core.settings import Settings
from core.storage import Storage


class Unplugged(WebClient):
    """A client that writes down what it is asked for and answers from memory."""

    def __init__(self) -> None:
        super().__init__(token="xoxb-from-outside")
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def api_call(self, api_method: str, **more: Any) -> SlackResponse:  # type: ignore[override]
        given = {**(more.get("params") or {}), **(more.get("json") or {}), **(more.get("data") or {})}
        self.calls.append((api_method, given))
        answer = {"ok": True, "ts": "1700000000.000100", "user": {"id": "U1", "name": "ada"}, "channel": {"id": "D1"}}
        return SlackResponse(client=self, http_verb="POST", api_url=api_method, req_args={}, data=answer, headers={}, status_code=200)


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was asked over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def command(name: str, text: str = "") -> str:
    return urlencode(
        {
            "command": name,
            "text": text,
            "team_id": "T1",
            "channel_id": "C1",
            "user_id": "U1",
            "user_name": "ada",
            "trigger_id": "1.2.3",
            "response_url": "https://hooks.slack.com/commands/1",
        }
    )


@pytest.mark.usefixtures("_no_network")
def test_the_app_is_built_without_network_and_tokens(settings: Settings) -> None:
    assert isinstance(create_app(settings), App)


@pytest.mark.usefixtures("_no_network")
def test_a_command_is_taken_by_a_client_from_outside(settings: Settings) -> None:
    client = Unplugged()
    app = create_app(settings.model_copy(update={"slack_signing_secret": SecretStr(SIGNING_SECRET)}), client=client)
    body = command("/train", "detection")
    response = app.dispatch(
        BoltRequest(body=body, headers=signature(body) | {"content-type": "application/x-www-form-urlencoded"}, mode="http")
    )
    assert response.status == 200 and response.body in ("", None)
    assert app.listener_runner.listener_executor.work.settle(10)  # type: ignore[attr-defined]
    methods = [method for method, _ in client.calls]
    assert methods.count("chat.postMessage") == 2, methods  # the thread's first message, and the wizard's
    screen = next(given for method, given in reversed(client.calls) if method == "chat.postMessage")["blocks"]
    assert any(block.get("text", {}).get("text") == "Which dataset?" for block in screen)


@pytest.mark.parametrize("made", [{"seconds": 600}, {"secret": "somebody else's"}], ids=["old", "forged"])
def test_a_request_that_is_not_slacks_is_refused(settings: Settings, made: dict[str, Any]) -> None:
    client = Unplugged()
    app = create_app(settings.model_copy(update={"slack_signing_secret": SecretStr(SIGNING_SECRET)}), client=client)
    body = command("/train")
    response = app.dispatch(BoltRequest(body=body, headers=signature(body, **made), mode="http"))
    assert response.status == 401 and client.calls == []


def test_socket_mode_and_installing_by_many_teams_exclude_each_other(settings: Settings, database: Database, storage: Storage) -> None:
    both = settings.model_copy(update={"slack_app_token": SecretStr("xapp-1"), "slack_client_id": "1.2"})
    with pytest.raises(InvalidInputError, match="exclude each other"):
        start(both, database, storage)
