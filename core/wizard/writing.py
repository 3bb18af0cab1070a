"""Transactions in which choices are judged: what must be asked over the network is asked between them, never within."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from core.db.session import Database
from core.zoo import weights

Result = TypeVar("Result")


def written(database: Database, take: Callable[[Session], Result]) -> Result:
    """What `take` makes of a writing transaction.

    Where it comes upon weights of which the hub has not been asked, all it did is rolled back, the hub asked, and `take` called again: on
    SQLite, where one process writes at a time, nobody waits for a hub. `take` must therefore leave nothing but what the transaction holds.
    """
    while True:  # each round knows one answer more
        try:
            with weights.only_what_is_known(), database.write() as session:
                return take(session)
        except weights.UnaskedError as unasked:
            url = unasked.url
        weights.ask(url)
