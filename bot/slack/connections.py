"""How requests come from Slack: over a WebSocket that we open, or to a port of ours."""

import contextlib
import logging
import socket
import threading
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.adapter.wsgi import SlackRequestHandler

logger = logging.getLogger(__name__)

CONCURRENCY = 16
PING_SECONDS = 10


class SocketConnection:
    """Socket Mode: no public address is needed. Comes back by itself after an interruption."""

    def __init__(self, app: App, app_token: str) -> None:
        # Its methods have no types.
        self._handler = cast("Any", SocketModeHandler(app, app_token, ping_interval=PING_SECONDS, concurrency=CONCURRENCY))
        try:
            self._handler.connect()
        except BaseException:
            self._handler.close()
            raise

    def alive(self) -> bool:
        """Whether it is connected, or tries to be."""
        return not bool(self._handler.client.closed)

    def close(self) -> None:
        """Disconnect."""
        client = self._handler.client
        client.auto_reconnect_enabled = False
        open_socket = getattr(client.current_session, "sock", None)
        if open_socket is not None:
            # Its reader would sit in its receive for seconds more, and closing waits for it.
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        self._handler.close()


class HttpConnection:
    """Events and interactions to `/slack/events`; installing at `/slack/install`. Put a proxy with TLS before it."""

    def __init__(self, app: App, port: int) -> None:
        self._server = make_server("", port, SlackRequestHandler(app), server_class=_Server, handler_class=_Quiet)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="slack-http", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Whether it listens."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
