"""Follow a session from its beginning and answer, as a bot would.    python examples/bot.py bob <session>

It may answer from inside the loop: the client goes on receiving while a send waits for its ack. Started
again, it answers nothing twice, because the id of an answer follows from the message it answers.
"""

import asyncio
import sys

from sign_in import SOCKET, get_token

from session_gateway_client import connect


async def main(user: str, session_id: str) -> None:
    async with connect(SOCKET, token_provider=lambda: get_token(user)) as client:
        session = await client.attach(session_id, since=0)
        async for message in session:
            if message.sender != client.user and message.content.startswith("!echo "):
                await session.send(message.content[6:], role="assistant", id=f"echo-{message.seq}")
            await session.read(message.seq)


asyncio.run(main(sys.argv[1], sys.argv[2]))
