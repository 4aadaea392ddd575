"""The faults of the matrix, by cell: what each does to the stage or to some of the crowd, and how it ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.cluster.crowd import Crowd
from tests.cluster.faults import Fault, PostgresStopped, RedisKilled, RedisTold
from tests.cluster.speaker import Speaker
from tests.faults.client_faults import Asleep, HalfOpen, Reset, SlowLine, TokenTwice
from tests.faults.node_faults import Drained, Frozen, Killed, Stalled
from tests.faults.plan import Stroke
from tests.faults.server_faults import BlackHole, Exhausted, SlowCommits, SlowWay, SubscribersKilled
from tests.faults.stage import Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a stroke falls."""

    stage: Stage
    crowd: Crowd
    stroke: Stroke

    @property
    def victims(self) -> Sequence[Speaker]:
        """The clients it hits."""
        return [self.crowd.speakers[n] for n in self.stroke.victims]


MAKE: Final[Mapping[str, Callable[[Scene], Fault]]] = {
    "redis.restart": lambda scene: RedisKilled(scene.stage.redis),
    "redis.flushall": lambda scene: RedisTold(scene.stage.redis, "FLUSHALL"),
    "redis.pubsub-kill": lambda scene: SubscribersKilled(scene.stage.redis),
    "redis.blackhole": lambda scene: BlackHole("redis", scene.stage.to_redis),
    "redis.slow": lambda scene: SlowWay("redis", scene.stage.to_redis, 0.2),
    "postgres.restart": lambda scene: PostgresStopped(scene.stage.postgres),
    "postgres.away": lambda scene: PostgresStopped(scene.stage.postgres),
    "postgres.slow-commits": lambda scene: SlowCommits(scene.stage.ground.database_url, 0.5),
    "postgres.exhausted": lambda scene: Exhausted(scene.stage.ground.database_url),
    "client.reset": lambda scene: Reset(scene.victims),
    "client.half-open": lambda scene: HalfOpen(scene.victims),
    "client.slow": lambda scene: SlowLine(scene.victims, scene.stage.doors, 1024),
    "client.asleep": lambda scene: Asleep(scene.victims),
    "client.token-twice": lambda scene: TokenTwice(scene.victims, scene.crowd),
    "node.kill": lambda scene: Killed(scene.stage.world.nodes[scene.stroke.node]),
    "node.freeze": lambda scene: Frozen(scene.stage.world.nodes[scene.stroke.node], scene.crowd),
    "node.drain": lambda scene: Drained(scene.stage.world.nodes[scene.stroke.node]),
    "node.stall": lambda scene: Stalled(scene.stage.world.nodes[scene.stroke.node]),
}
