"""A local Slack: the Web API over real HTTP, Socket Mode over a real WebSocket or signed requests over HTTP, and the page where teams install
an app, as far as the bot uses them.

Whatever is sent is held against Slack's published types by `slack_schema`, and against what those leave unsaid by `slack_rules`; what breaks a
rule is refused as Slack does, and kept in `violations`.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientSession, WSMsgType, web
from slack_rules import message_problems, options_problems, view_problems
from slack_schema import answer_problems, argument_problems, payload_problems, result_problems

SLACK_WAITS = 3.0  # seconds, for an acknowledgement, and for the use of a trigger
TEAM = "T0000FAKE"
BOT_USER = "U0000BOT"
BOT = "B0000BOT"
BOT_TOKEN = "xoxb-fake"
APP_TOKEN = "xapp-fake"
SIGNING_SECRET = "signing-secret"
CLIENT_ID, CLIENT_SECRET = "client.id", "client-secret"


@dataclass
class Channel:
    """A channel with its messages in the order of their posting; `user` in a conversation with one person."""

    id: str
    name: str = ""
    member: bool = True
    archived: bool = False
    user: str = ""
    team: str = TEAM
    messages: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Fault:
    """The next calls of a method fail: with an error of Slack's, or with a 429."""

    error: str = ""
    times: int = 1
    retry_after: int = 0
    after: bool = False  # fails only once it has been done, as when the answer is lost
    skip: int = 0  # so many calls go well before


@dataclass
class Acknowledged:
    """What came back for an envelope, and after how long."""

    payload: dict[str, Any] | None
    seconds: float
    status: int = 200  # of the answer over HTTP


class SlackRefusalError(Exception):
    """An `ok: false`."""

    def __init__(self, error: str, messages: list[str] | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.messages = messages or []


class FakeSlack:
    """A local Slack, of one team until others are added.

    With a `request_url` what people do is sent there, signed; else over the WebSockets that the bot has opened.
    """

    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {
            "C0000MAIN": Channel("C0000MAIN", "vision"),
            "C0000OUT": Channel("C0000OUT", "closed", member=False),
        }
        self.users: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.homes: dict[str, dict[str, Any]] = {}
        self.ephemerals: list[dict[str, Any]] = []
        self.responses: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.violations: list[str] = []
        self.faults: dict[str, list[Fault]] = {}
        self.tokens = {BOT_TOKEN: TEAM}
        self.request_url = ""
        self.redirect_url = ""  # where the app is told that it has been installed
        self.installing = TEAM  # whose page it is when somebody consents
        self.codes: dict[str, str] = {}  # of consents that have not been redeemed: the team
        self.looks_until_ready = 1  # how often files.info says nothing of a new file
        self.slow_seconds = 0.0  # before each answer
        self.triggers: dict[str, float] = {}
        self._team = ""  # of the call that is being answered
        self._numbers = itertools.count(1)
        self._sockets: list[web.WebSocketResponse] = []
        self._acks: dict[str, tuple[asyncio.Future[dict[str, Any] | None], str]] = {}
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fake-slack", daemon=True)
        self.port = 0
        for user, name, admin in (("U0000ADA", "Ada", False), ("U0000GRACE", "Grace", False), ("U0000ROOT", "Root", True)):
            self.add_user(user, name, admin=admin)

    # ---------------------------------------------------------------- life

    def __enter__(self) -> "FakeSlack":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/api/{method}", self._api)
        app.router.add_post("/upload/{file}", self._upload)
        app.router.add_get("/files-pri/{file}/{name}", self._download)
        app.router.add_post("/response/{id}", self._response)
        app.router.add_get("/link", self._socket)
        app.router.add_get("/oauth/v2/authorize", self._consent)
        runner = web.AppRunner(app, access_log=None)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    # ---------------------------------------------------------------- what tests do

    def add_user(self, user: str, name: str, *, admin: bool = False, **more: Any) -> str:
        profile = {"real_name": name, "display_name": name, "email": f"{name.lower()}@example.com"}
        self.users[user] = {
            "id": user,
            "team_id": TEAM,
            "name": name.lower(),
            "real_name": name,
            "profile": profile,
            "is_admin": admin,
            "is_owner": False,
            "is_bot": False,
            "deleted": False,
        } | more
        return user

    def add_team(self, team: str, *people: tuple[str, str]) -> str:
        """Another team with a channel of its own and people, by id and name; returns the channel."""
        for user, name in people:
            self.add_user(user, name, team_id=team)
        return self.add_channel(f"C{team[1:]}", "vision", team=team).id

    def add_channel(self, channel: str, name: str = "", **more: Any) -> Channel:
        self.channels[channel] = Channel(channel, name or channel.lower(), **more)
        return self.channels[channel]

    def fail(self, method: str, error: str = "", *, times: int = 1, retry_after: int = 0, after: bool = False, skip: int = 0) -> None:
        self.faults.setdefault(method, []).append(Fault(error, times, retry_after, after, skip))

    def add_file(self, name: str, content: bytes, mimetype: str = "application/octet-stream") -> dict[str, Any]:
        """A file that a person has uploaded."""
        file_id = f"F{next(self._numbers):09d}"
        url = f"{self.url}/files-pri/{TEAM}-{file_id}/{name}"
        suffix = name.rpartition(".")[2]
        file: dict[str, Any] = {
            "id": file_id,
            "created": int(time.time()),
            "timestamp": int(time.time()),
            "name": name,
            "title": name,
            "mimetype": mimetype,
            "filetype": suffix,
            "pretty_type": suffix.upper(),
            "user": "U0000ADA",
            "user_team": TEAM,
            "editable": False,
            "size": len(content),
            "mode": "hosted",
            "is_external": False,
            "external_type": "",
            "is_public": True,
            "is_starred": False,
            "public_url_shared": False,
            "display_as_bot": False,
            "username": "",
            "channels": [],
            "groups": [],
            "url_private": url,
            "url_private_download": url,
            "permalink": f"https://fake.slack.com/files/U0000ADA/{file_id}/{name}",
            "permalink_public": f"https://slack-files.com/{TEAM}-{file_id}-0",
            "media_display_type": "unknown",
            "has_rich_preview": False,
            "file_access": "visible",
        }
        self.files[file_id] = file | {"content": content, "ready": True}
        return file

    def messages(self, channel: str, thread: str | None = None) -> list[dict[str, Any]]:
        """The messages of a thread, or those of the channel itself."""
        with self._lock:
            found = self.channels[channel].messages
            if thread is None:
                return [item for item in found if item.get("thread_ts") in (None, item["ts"])]
            return [item for item in found if item.get("thread_ts") == thread and item["ts"] != thread]

    def message(self, channel: str, ts: str) -> dict[str, Any]:
        return next(item for item in self.channels[channel].messages if item["ts"] == ts)

    def say(self, channel: str, user: str, text: str, thread: str = "", files: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """A person's message as it lies in the channel."""
        with self._lock:
            message: dict[str, Any] = {
                "type": "message",
                "user": user,
                "text": text,
                "ts": self.new_ts(),
            }
            if thread:
                message["thread_ts"] = thread
            message |= {"files": files, "subtype": "file_share"} if files else {"team": self.channels[channel].team}
            self.channels[channel].messages.append(message)
            return message

    def direct(self, user: str) -> Channel:
        """The conversation of the bot with a person."""
        with self._lock:
            found = next((item for item in self.channels.values() if item.user == user), None)
            return found or self.add_channel(f"D{user[1:]}", user=user, team=self.users[user]["team_id"])

    def new_ts(self) -> str:
        return f"{time.time():.0f}.{next(self._numbers):06d}"

    def new_trigger(self) -> str:
        trigger = f"{next(self._numbers)}.{TEAM}.{time.time_ns()}"
        self.triggers[trigger] = time.monotonic()
        return trigger

    def new_response_url(self) -> str:
        number = str(next(self._numbers))
        self.responses[number] = []
        return f"{self.url}/response/{number}"

    def calls_of(self, method: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.calls if name == method]

    # ---------------------------------------------------------------- Socket Mode

    def send(self, kind: str, payload: dict[str, Any], *, retry: int = 0, timeout: float = 10) -> Acknowledged:
        """Send an envelope and wait for its acknowledgement."""
        return asyncio.run_coroutine_threadsafe(self._send(kind, payload, retry, timeout), self._loop).result(timeout + 5)

    def send_all(self, envelopes: list[tuple[str, dict[str, Any]]], timeout: float = 30) -> list[Acknowledged]:
        """Send many envelopes at once."""

        async def send() -> list[Acknowledged]:
            return await asyncio.gather(*(self._send(kind, payload, 0, timeout) for kind, payload in envelopes))

        return asyncio.run_coroutine_threadsafe(send(), self._loop).result(timeout + 5)

    def connected(self) -> bool:
        return any(not socket.closed for socket in self._sockets)

    def drop_connections(self) -> None:
        """Close every WebSocket, as Slack does every few hours."""

        async def close() -> None:
            dropped, self._sockets = self._sockets, []  # first: a bot may be back while they are being closed
            for socket in dropped:
                await socket.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    async def _send(self, kind: str, payload: dict[str, Any], retry: int, timeout: float) -> Acknowledged:
        assert not (problems := payload_problems(kind, payload)), f"Slack would not send this: {problems}"
        over = self._over_http if self.request_url else self._over_socket
        began = time.monotonic()
        status, answer = await asyncio.wait_for(over(kind, payload, retry), timeout)
        seconds = time.monotonic() - began
        if answer and kind != "events_api":
            self._judge("acknowledgement", answer_problems(payload.get("type", kind), answer))
        if answer and answer.get("response_action") in ("update", "push"):
            self._judge("view in an acknowledgement", view_problems(answer["view"], self._file_states()))
        if answer and "options" in answer:
            self._judge("options", options_problems(answer))
        return Acknowledged(answer, seconds, status)

    async def _over_socket(self, kind: str, payload: dict[str, Any], retry: int) -> tuple[int, dict[str, Any] | None]:
        socket = next(item for item in reversed(self._sockets) if not item.closed)
        envelope_id = f"envelope-{next(self._numbers)}"
        envelope: dict[str, Any] = {
            "envelope_id": envelope_id,
            "type": kind,
            "payload": payload,
            "accepts_response_payload": kind != "events_api",
        }
        if kind == "events_api":
            envelope |= {"retry_attempt": retry, "retry_reason": "timeout" if retry else ""}
        future: asyncio.Future[dict[str, Any] | None] = self._loop.create_future()
        self._acks[envelope_id] = (future, _view_of(payload))
        await socket.send_str(json.dumps(envelope))
        return 200, await future

    async def _over_http(self, kind: str, payload: dict[str, Any], retry: int) -> tuple[int, dict[str, Any] | None]:
        if kind == "events_api":
            content_type, body = "application/json", json.dumps(payload)
        else:
            form = payload if kind == "slash_commands" else {"payload": json.dumps(payload)}
            content_type, body = "application/x-www-form-urlencoded", urlencode(form)
        headers = {"Content-Type": content_type} | signature(body)
        if retry:
            headers |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": "http_timeout"}
        async with ClientSession() as session, session.post(self.request_url, data=body.encode(), headers=headers) as response:
            text = await response.text()
            answer = json.loads(text) if text.startswith("{") else {"text": text} if text else None
            self._acknowledged(_view_of(payload), answer)
            return response.status, answer

    def _acknowledged(self, view: str, answer: dict[str, Any] | None) -> None:
        """An acknowledgement can change the dialog that was sent."""
        if answer and answer.get("response_action") == "update" and view in self.views:
            self.views[view] |= answer["view"]

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=1 << 24)
        await socket.prepare(request)
        await socket.send_json({"type": "hello", "num_connections": 1, "debug_info": {}, "connection_info": {"app_id": "A0000FAKE"}})
        self._sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                answer = json.loads(message.data)
                waiting = self._acks.pop(answer.get("envelope_id"), None)
                if waiting is not None and not waiting[0].done():
                    self._acknowledged(waiting[1], answer.get("payload"))
                    waiting[0].set_result(answer.get("payload"))
        return socket

    # ---------------------------------------------------------------- the Web API

    async def _api(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        arguments = await _arguments(request)
        authorization = request.headers.get("Authorization", "")
        token = (authorization.removeprefix("Bearer ") or arguments.pop("token", "")).strip()
        self.calls.append((method, arguments))
        if problems := argument_problems(
            method, arguments | _credentials(authorization), as_text=request.content_type != "application/json"
        ):
            self.violations.append(f"{method}: {problems}")
            return web.json_response({"ok": False, "error": "invalid_arguments", "response_metadata": {"messages": problems}})
        if self.slow_seconds:
            await asyncio.sleep(self.slow_seconds)
        fault = self._fault(method)
        if fault is not None and fault.retry_after:
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(fault.retry_after)})
        if fault is not None and not fault.after:
            return web.json_response({"ok": False, "error": fault.error})
        handler: Callable[..., dict[str, Any]] | None = getattr(self, "api_" + method.replace(".", "_"), None)
        if handler is None:
            self.violations.append(f"the bot called {method}, which this Slack does not have")
            return web.json_response({"ok": False, "error": "unknown_method"})
        if method == "apps.connections.open":
            if token != APP_TOKEN:
                return web.json_response({"ok": False, "error": "invalid_auth"})
        elif method == "oauth.v2.access":
            if token != f"Basic {base64.b64encode(f'{CLIENT_ID}:{CLIENT_SECRET}'.encode()).decode()}":
                return web.json_response({"ok": False, "error": "bad_client_secret"})
        elif token not in self.tokens:
            return web.json_response({"ok": False, "error": "not_authed" if not token else "invalid_auth"})
        try:
            with self._lock:
                self._team = self.tokens.get(token, "")
                answer = handler(arguments)
        except SlackRefusalError as refusal:
            metadata = {"response_metadata": {"messages": [f"[ERROR] {item}" for item in refusal.messages]}} if refusal.messages else {}
            return web.json_response({"ok": False, "error": refusal.error} | metadata)
        if fault is not None:
            return web.json_response({"ok": False, "error": fault.error})
        answer = {"ok": True} | answer
        if problems := result_problems(method, answer):
            self.violations.append(f"Slack would not answer so to {method}: {problems}")
        return web.json_response(answer)

    def _fault(self, method: str) -> Fault | None:
        waiting = self.faults.get(method) or []
        if not waiting:
            return None
        if waiting[0].skip:
            waiting[0].skip -= 1
            return None
        waiting[0].times -= 1
        return waiting[0] if waiting[0].times > 0 else waiting.pop(0)

    def _judge(self, what: str, problems: list[str], error: str = "invalid_blocks") -> None:
        if not problems:
            return
        # A file that is not ready is no mistake: the bot has to wait and try again.
        if any("invalid slack file" not in problem for problem in problems):
            self.violations.append(f"{what}: {problems}")
        raise SlackRefusalError(error, problems)

    def _file_states(self) -> dict[str, bool]:
        return {file_id: bool(file["ready"]) for file_id, file in self.files.items()}

    def _channel(self, channel: str, *, write: bool = True) -> Channel:
        if channel.startswith("U"):
            return self.direct(channel)
        found = self.channels.get(channel)
        if found is None or found.team != self._team:
            raise SlackRefusalError("channel_not_found")
        if not found.member:
            raise SlackRefusalError("not_in_channel")
        if write and found.archived:
            raise SlackRefusalError("is_archived")
        return found

    def _content(self, arguments: dict[str, Any], what: str) -> dict[str, Any]:
        self._judge(what, message_problems(arguments, self._file_states()))
        return {"text": arguments.get("text", ""), "blocks": arguments.get("blocks") or []}

    def api_auth_test(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "url": "https://fake.slack.com/",
            "team": "Fake",
            "user": "stationmaster",
            "team_id": self._team,
            "user_id": BOT_USER,
            "bot_id": BOT,
        }

    def api_apps_connections_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"url": f"ws://127.0.0.1:{self.port}/link"}

    async def _consent(self, request: web.Request) -> web.Response:
        """The page where somebody of a team agrees to the app's scopes; here everybody does at once."""
        if request.query.get("client_id") != CLIENT_ID or not request.query.get("scope"):
            return web.Response(status=400, text="invalid_client_id")
        code = f"code-{next(self._numbers)}"
        self.codes[code] = self.installing
        return web.Response(
            status=302, headers={"Location": f"{self.redirect_url}?{urlencode({'code': code, 'state': request.query['state']})}"}
        )

    def api_oauth_v2_access(self, arguments: dict[str, Any]) -> dict[str, Any]:
        team = self.codes.pop(arguments["code"], None)
        if team is None:
            raise SlackRefusalError("invalid_code")
        token = f"xoxb-{team}-{next(self._numbers)}"
        self.tokens[token] = team
        return {
            "access_token": token,
            "token_type": "bot",
            "scope": "chat:write,commands",
            "bot_user_id": BOT_USER,
            "app_id": "A0000FAKE",
            "team": {"name": team.lower(), "id": team},
            "enterprise": None,
            "is_enterprise_install": False,
            "authed_user": {"id": "U0000ADA"},
        }

    def api_users_info(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["user"] not in self.users or self.users[arguments["user"]]["team_id"] != self._team:
            raise SlackRefusalError("user_not_found")
        return {"user": self.users[arguments["user"]]}

    def api_conversations_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"channel": {"id": self.direct(arguments["users"]).id}}

    def api_chat_postMessage(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        channel = self._channel(arguments["channel"])
        thread = arguments.get("thread_ts")
        if thread and not any(item["ts"] == thread for item in channel.messages):
            raise SlackRefusalError("thread_not_found")
        message = {"type": "message", "user": BOT_USER, "bot_id": BOT, "team": TEAM, "ts": self.new_ts()} | self._content(
            arguments, "message"
        )
        if thread:
            message["thread_ts"] = thread
        if arguments.get("metadata"):
            message["metadata"] = arguments["metadata"]
        channel.messages.append(message)
        return {"channel": channel.id, "ts": message["ts"], "message": message}

    def api_chat_update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(arguments["channel"])
        found = next((item for item in channel.messages if item["ts"] == arguments["ts"]), None)
        if found is None:
            raise SlackRefusalError("message_not_found")
        if found.get("user") != BOT_USER:
            raise SlackRefusalError("cant_update_message")
        found |= self._content(arguments, "update")
        if arguments.get("metadata"):
            found["metadata"] = arguments["metadata"]
        found["edits"] = found.get("edits", 0) + 1
        return {"channel": channel.id, "ts": found["ts"], "text": found["text"]}

    def api_chat_delete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(arguments["channel"])
        before = len(channel.messages)
        channel.messages = [item for item in channel.messages if item["ts"] != arguments["ts"]]
        if len(channel.messages) == before:
            raise SlackRefusalError("message_not_found")
        return {"channel": channel.id, "ts": arguments["ts"]}

    def api_chat_postEphemeral(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        channel = self._channel(arguments["channel"])
        message = self._content(arguments, "ephemeral") | {
            "type": "message",
            "channel": channel.id,
            "user": arguments["user"],
            "thread_ts": arguments.get("thread_ts"),
            "ts": self.new_ts(),
        }
        self.ephemerals.append(message)
        return {"message_ts": message["ts"]}

    def api_chat_getPermalink(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        channel = self._channel(arguments["channel"], write=False)
        return {"permalink": f"https://fake.slack.com/archives/{channel.id}/p{arguments['message_ts'].replace('.', '')}"}

    def _page(self, messages: list[dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
        limit, start = int(arguments.get("limit", 100)), int(arguments.get("cursor") or 0)
        with_metadata = str(arguments.get("include_all_metadata", "")).lower() in ("true", "1")
        hidden = {"edits"} if with_metadata else {"edits", "metadata"}
        shown = [{key: value for key, value in item.items() if key not in hidden} for item in messages[start : start + limit]]
        more = start + limit < len(messages)
        return {"messages": shown, "has_more": more, "response_metadata": {"next_cursor": str(start + limit) if more else ""}}

    def api_conversations_replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(arguments["channel"], write=False)
        thread = [item for item in channel.messages if arguments["ts"] in (item["ts"], item.get("thread_ts"))]
        if not thread:
            raise SlackRefusalError("thread_not_found")
        return self._page([{key: value for key, value in item.items() if key != "subtype"} for item in thread], arguments)

    def api_conversations_history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(arguments["channel"], write=False)
        found = [item for item in reversed(channel.messages) if item.get("thread_ts") in (None, item["ts"])]
        oldest = arguments.get("oldest")
        return self._page([item for item in found if oldest is None or float(item["ts"]) > float(oldest)], arguments)

    # ---------------------------------------------------------------- files

    def api_files_getUploadURLExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        file_id = f"F{next(self._numbers):09d}"
        assert int(arguments["length"]) > 0
        self.files[file_id] = {
            "id": file_id,
            "name": arguments["filename"],
            "length": int(arguments["length"]),
            "content": b"",
            "ready": False,
            "looks": 0,
        }
        return {"file_id": file_id, "upload_url": f"{self.url}/upload/{file_id}"}

    async def _upload(self, request: web.Request) -> web.Response:
        file = self.files[request.match_info["file"]]
        if request.content_type.startswith("multipart/"):
            part = await (await request.multipart()).next()
            content = bytes(await part.read())  # type: ignore[union-attr]
        else:
            content = await request.read()
        if len(content) != file["length"]:
            self.violations.append(f"{file['name']}: {len(content)} bytes came, {file['length']} were announced")
        file["content"] = content
        return web.Response(text=f"OK - {len(content)}")

    def api_files_completeUploadExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        done = []
        for item in _decoded(arguments["files"]):
            file = self.files[item["id"]]
            file["title"] = item.get("title", file["name"])
            if arguments.get("channel_id"):
                channel = self._channel(arguments["channel_id"])
                message = {
                    "type": "message",
                    "user": BOT_USER,
                    "bot_id": BOT,
                    "ts": self.new_ts(),
                    "text": "",
                    "blocks": [],
                    "files": [file["id"]],
                }
                if arguments.get("thread_ts"):
                    message["thread_ts"] = arguments["thread_ts"]
                channel.messages.append(message)
                file["ready"] = True
            elif self.looks_until_ready == 0:
                file["ready"] = True
            done.append({"id": file["id"], "title": file["title"]})
        return {"files": done}

    def api_files_info(self, arguments: dict[str, Any]) -> dict[str, Any]:
        file = self.files.get(arguments["file"])
        if file is None:
            raise SlackRefusalError("file_not_found")
        if not file["ready"]:
            file["looks"] = file.get("looks", 0) + 1
            if file["looks"] > self.looks_until_ready:
                file["ready"] = True
        shown = {key: value for key, value in file.items() if key not in ("content", "ready", "looks", "length")}
        if file["ready"]:
            shown |= {"mimetype": file.get("mimetype") or "image/png", "size": len(file["content"])}
        return {"file": shown}

    async def _download(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.Response(text="<html>Sign in</html>", content_type="text/html")
        file = self.files[request.match_info["file"].partition("-")[2]]
        return web.Response(body=file["content"], content_type=file.get("mimetype") or "application/octet-stream")

    # ---------------------------------------------------------------- views and responses

    def _trigger(self, trigger: str) -> None:
        began = self.triggers.pop(trigger, None)
        if began is None:
            raise SlackRefusalError("invalid_trigger_id" if trigger else "invalid_arguments")
        if time.monotonic() - began > SLACK_WAITS:
            raise SlackRefusalError("expired_trigger_id")

    def _view(self, arguments: dict[str, Any]) -> dict[str, Any]:
        view: dict[str, Any] = _decoded(arguments["view"])
        self._judge("view", view_problems(view, self._file_states()))
        return view

    def _new_view(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """A view with what Slack makes of it."""
        view_id = f"V{next(self._numbers):09d}"
        return (
            {
                "private_metadata": "",
                "callback_id": "",
                "title": {"type": "plain_text", "text": "View Title"},  # which homes are said to have
                "close": None,
                "submit": None,
                "clear_on_close": False,
                "notify_on_close": False,
            }
            | self._view(arguments)
            | {
                "id": view_id,
                "root_view_id": view_id,
                "previous_view_id": None,
                "hash": f"{time.time()}.{next(self._numbers)}",
                "team_id": self._team,
                "app_id": "A0000FAKE",
                "bot_id": BOT,
                "state": {"values": {}},
            }
        )

    def api_views_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._trigger(arguments.get("trigger_id", ""))
        view = self._new_view(arguments)
        self.views[view["id"]] = view
        return {"view": view}

    def api_views_update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        found = self.views.get(arguments["view_id"])
        if found is None:
            raise SlackRefusalError("not_found")
        if arguments.get("hash") not in (None, found["hash"]):
            raise SlackRefusalError("hash_conflict")
        view = self._view(arguments)
        found |= {"submit": None, "close": None, "private_metadata": ""} | view | {"hash": f"{time.time()}.{next(self._numbers)}"}
        return {"view": found}

    def api_views_publish(self, arguments: dict[str, Any]) -> dict[str, Any]:
        view = self._new_view(arguments)
        self.homes[arguments["user_id"]] = view
        return {"view": view}

    async def _response(self, request: web.Request) -> web.Response:
        used = self.responses.get(request.match_info["id"])
        if used is None or len(used) >= 5:
            return web.Response(status=404, text='{"ok":false,"error":"used_url"}')
        body = await request.json()
        problems = message_problems(body, self._file_states()) + answer_problems("response_url", body)
        if problems:
            self.violations.append(f"response: {problems}")
            return web.Response(status=400, text="invalid_blocks")
        used.append(body | {"type": "message", "ts": self.new_ts()})
        return web.Response(text="ok")


def signature(body: str, seconds: float = 0, secret: str = SIGNING_SECRET) -> dict[str, str]:
    """The headers by which the app knows that a request is Slack's; as of `seconds` ago."""
    stamp = str(int(time.time() - seconds))
    signed = hmac.new(secret.encode(), f"v0:{stamp}:{body}".encode(), hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={signed}"}


def _view_of(payload: dict[str, Any]) -> str:
    return str((payload.get("view") or {}).get("id", ""))


async def _arguments(request: web.Request) -> dict[str, Any]:
    if request.content_type == "application/json":
        return dict(json.loads(await request.text() or "{}"))
    arguments: dict[str, Any] = {**request.query, **(await request.post())}
    return {key: _decoded(value) if key in ("blocks", "metadata", "view", "files") else value for key, value in arguments.items()}


def _credentials(authorization: str) -> dict[str, str]:
    """The arguments that may come in a header in their place."""
    if not authorization.startswith("Basic "):
        return {}
    client_id, _, client_secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    return {"client_id": client_id, "client_secret": client_secret}


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def texts(blocks: list[dict[str, Any]]) -> Iterator[str]:
    """Everything that can be read in blocks."""
    for block in blocks:
        for key, value in block.items():
            if (key == "text" and isinstance(value, str)) or key in ("alt_text",):
                yield value
            elif isinstance(value, dict):
                yield from texts([value])
            elif isinstance(value, list):
                yield from texts([item for item in value if isinstance(item, dict)])
