"""Middleware before all listeners: who calls, and whether the operator lets them in."""

from collections.abc import Callable

from slack_bolt import Ack, App, BoltContext, BoltResponse

from bot.slack.caller import Caller, read_caller
from bot.slack.forms import notice_view
from bot.slack.switchboard import Switchboard
from bot.slack.text import Json, literal

CALLER = "caller"


def register(app: App, board: Switchboard) -> None:
    """Put the middleware before all listeners."""

    @app.middleware
    def admit(body: Json, context: BoltContext, ack: Ack, next: Callable[[], BoltResponse]) -> BoltResponse | None:
        caller = read_caller(body, context.team_id or context.enterprise_id or "", context.user_id or "")
        context[CALLER] = caller
        # What concerns the whole team, such as the removal of the app, comes from nobody.
        refusal = board.people.refusal(caller) if caller.user else ""
        if not refusal:
            return next()
        kind = body.get("type")
        if kind == "view_submission":
            return ack(response_action="update", view=notice_view("Not here", literal(refusal)))
        if kind == "block_suggestion":
            return ack(options=[])
        if _was_addressed(body):
            board.work.submit(caller.user, lambda: board.tell(caller, refusal))
        return ack()


def caller_of(context: BoltContext) -> Caller:
    """Who the middleware has found."""
    caller: Caller = context[CALLER]
    return caller


def _was_addressed(body: Json) -> bool:
    """Whether somebody spoke to the bot, rather than in its presence."""
    event = body.get("event")
    return event is None or event.get("type") == "app_mention"
