"""Open a session, say something, read it back, leave.    python examples/hello.py"""

import asyncio

from sign_in import SOCKET, get_token

from session_gateway_client import connect


async def main() -> None:
    async with connect(SOCKET, token_provider=lambda: get_token("alice")) as client:
        session = await client.open(title="Hello", ttl=600)
        print(f"session {session.id}, open to {client.user}")

        ack = await session.send("hello")
        print(f"committed as {ack.seq}")

        async for message in session:
            print(f"{message.seq} {message.sender}: {message.content}")
            break

        history = await session.history()
        print(f"the history has {len(history.messages)}")
        await session.close()


asyncio.run(main())
