"""The crowd of the matrix itself, on nodes of this process."""

from pathlib import Path

from tests.faults.small import small
from tests.waiting import until


async def test_who_has_something_left_to_say_takes_over_again_when_others_come_between(
    tmp_path: Path,
) -> None:
    async with small(tmp_path) as run:
        room = run.crowd.rooms[0]
        one, other = room.speakers
        await until(lambda: room.id in one.superseded or room.id in other.superseded, what="one holds it")
        if room.id in other.superseded:
            one, other = other, one
        take_over, tries = one.take_over, 0

        def overtaken(session: str) -> None:
            nonlocal tries
            tries += 1
            # The first time an attachment that was asked for long ago, in an outage, is served behind it.
            if tries > 1:
                take_over(session)

        one.take_over = overtaken  # type: ignore[method-assign]
        one.say(room.id, f"{room.id} left to say")
        assert one.unacked
        await run.crowd.reclaim(within=3.0)
        assert not one.unacked
        assert one.heads[room.id] > 0
