"""Chat from the terminal.

    python examples/chat.py alice            makes a session and prints its id
    python examples/chat.py alice <session>  joins it (its owner must have made you a member)

Stop the gateway and start it again while you write: nothing is lost.
"""

import asyncio
import sys

from sign_in import SOCKET, get_token

from session_gateway_client import Event, PresenceChanged, Refused, Session, StateChanged, connect


def tell(event: Event) -> None:
    match event:
        case StateChanged(state=state, reason=reason, retry_in_s=retry_in_s):
            when = f", next try in {retry_in_s:.1f} s" if retry_in_s is not None else ""
            print(f"- {state}{when} {reason}")
        case PresenceChanged(user=user, event=what):
            print(f"- {user} {what}s")


async def show(session: Session) -> None:
    async for message in session:
        print(f"{message.sender}: {message.content}")
    print(f"- over: {session.ended}")


async def say(session: Session, line: str) -> None:
    try:
        await session.send(line)
    except Refused as refused:
        print(f"- not sent: {refused}")


async def main(user: str, session_id: str | None) -> None:
    async with (
        connect(SOCKET, token_provider=lambda: get_token(user)) as client,
        asyncio.TaskGroup() as tasks,
    ):
        client.on_event(tell)
        session = await (
            client.attach(session_id, since=0) if session_id else client.open(title=f"{user}'s talk")
        )
        print(f"- session {session.id}")
        tasks.create_task(show(session))
        while line := (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n"):
            tasks.create_task(say(session, line))
        await client.flush()
        await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
