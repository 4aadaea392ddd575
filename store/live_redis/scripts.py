"""The scripts of the live indexes, `store/lua/live_*.lua`; each says there what it takes and returns."""

from typing import Final

from store.redis_wire.scripts import Script

CONNECTIONS: Final = Script("live_connections")
USERS: Final = Script("live_users")
MEMBERS: Final = Script("live_members")
ADMIT: Final = Script("live_admit")
FORGET: Final = Script("live_forget")
REMOVE: Final = Script("live_remove")
LIST: Final = Script("live_list")
LEAVE: Final = Script("live_leave")
PUT_RECORDS: Final = Script("live_put_records")
RECORDS: Final = Script("live_records")
PUT_ONCE: Final = Script("live_put_once")
TAKE_ONCE: Final = Script("live_take_once")
