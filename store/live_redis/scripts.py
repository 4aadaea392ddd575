"""The scripts of the live indexes, `store/lua/live_*.lua`; each says there what it takes and returns."""

from typing import Final

from store.redis_wire.scripts import Script

CONNECTIONS: Final = Script("live_connections", arguments=1)
USERS: Final = Script("live_users", keys=2, arguments=1)
MEMBERS: Final = Script("live_members", arguments=1)
ADMIT: Final = Script("live_admit")
FORGET: Final = Script("live_forget")
REMOVE: Final = Script("live_remove", arguments=1)
LIST: Final = Script("live_list")
LEAVE: Final = Script("live_leave")
NODES: Final = Script("live_nodes")
RETIRE: Final = Script("live_retire")
TAKE: Final = Script("live_take")
REMAINS: Final = Script("live_remains")
CLEAR: Final = Script("live_clear", arguments=2)
DISCONNECT: Final = Script("live_disconnect")
BURY: Final = Script("live_bury")
FINISH: Final = Script("live_finish")
PUT_RECORDS: Final = Script("live_put_records", arguments=2)
RECORDS: Final = Script("live_records")
PUT_ONCE: Final = Script("live_put_once", arguments=1)
RENEW_ONCE: Final = Script("live_renew_once", arguments=1)
TAKE_ONCE: Final = Script("live_take_once")
