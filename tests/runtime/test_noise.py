"""Ten thousand frames that hypothesis thinks of: no bug, nothing stored, no task left."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.world import world
from tests.waiting import turns, until

EXAMPLES, FRAMES = 100, 100
SESSION = "the session"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(SESSION),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
types = st.sampled_from(
    [
        "open",
        "attach",
        "detach",
        "update",
        "history",
        "read",
        "signal",
        "presence",
        "heartbeat",
        "refresh",
        "x",
    ]
)
fields = st.dictionaries(
    st.sampled_from(
        ["id", "session", "since", "seq", "ts", "seen", "name", "data", "before", "limit", "ttl"]
    ),
    values,
    max_size=5,
)
shaped = st.builds(lambda kind, more: {"type": kind, **more}, types, fields)
noise = st.lists(st.binary(max_size=60) | shaped, min_size=FRAMES, max_size=FRAMES)


def written(frame: bytes | dict[str, Any], session: str) -> bytes:
    return frame if isinstance(frame, bytes) else json.dumps(frame).replace(SESSION, session).encode()


async def play(frames: list[bytes | dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder)) as w:
            client = await w.client()
            session = await client.open()
            before = len(w.node.tasks)
            for frame in frames:
                client.connection.on_text(written(frame, session), w.clock.monotonic())
                await turns(1)
            await client.ask("heartbeat", ts=1)
            assert client.outlet.closed is None
            await until(lambda: len(w.node.tasks) <= before, what="the tasks of the requests to end")
            assert (await w.node.log.standings([session]))[session].head == 0


@settings(max_examples=EXAMPLES)
@given(noise)
def test_ten_thousand_frames_of_noise_leave_nothing(frames: list[bytes | dict[str, Any]]) -> None:
    asyncio.run(play(frames))
