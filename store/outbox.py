"""Which events are over: the rule that every log keeps when it purges. Nothing here touches a database."""

from collections.abc import Iterable


def last_overdue(events: Iterable[tuple[int, int]], before: int, now: int) -> int | None:
    """The id up to which events are to be deleted, out of the first ones as (id, time); None: none.

    A prefix, so that one number says what is gone. A time behind `now` is that of a node whose clock is
    fast: it neither keeps the others, nor is it a reason to delete them.
    """
    last = None
    for id, at in events:
        if at < before:
            last = id
        elif at <= now:
            break
    return last
