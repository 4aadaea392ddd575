"""What a speaker waits for, and what it heard of others: values without behaviour."""

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from tests.cluster.wire import Frame

# What answers what.
ANSWERS: Final = {
    "attach": "attached",
    "close": "closed",
    "detach": "detached",
    "history": "history",
    "presence": "presence",
    "read": "read",
    "signal": "signal",
}


@dataclass(slots=True)
class Saying:
    """A message that waits for its ack."""

    id: str
    session: str
    text: str
    metadata: dict[str, int]
    said_at: float
    tries: int = 0  # on the present connection, without an answer yet

    @property
    def frame(self) -> Frame:
        what = {"session": self.session, "content": self.text, "metadata": self.metadata}
        return {"type": "send", "id": self.id, **what}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that waits for its answer; whoever asked may have given up."""

    kind: str
    session: str
    since: int | None
    answer: asyncio.Future[Frame]


@dataclass(frozen=True, slots=True)
class Heard:
    """A signal of somebody else: when it was sent and heard, and whether another node brought it."""

    sent_at: float
    heard_at: float
    is_from_afar: bool


def is_of(session: str, content: str) -> bool:
    """Whether a text was made for this session: everybody here begins with its id."""
    return content.startswith(session)


def misfits(asked: Asked, frame: Frame, fellows: Collection[str] | None) -> Iterator[str]:
    """In what an answer is not one to what was asked."""
    if frame["session"] != asked.session:
        yield f"an answer not about {asked.session}"
    if frame["type"] != ANSWERS[asked.kind]:
        yield f"no answer to {asked.kind}"
    if not all(is_of(asked.session, message["content"]) for message in frame.get("messages", ())):
        yield "others' history"
    users = {user["user"] for user in frame.get("users", ())}
    if fellows is not None and not users <= set(fellows):
        yield "others' presence"
