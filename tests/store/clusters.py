"""What happens to a Redis Cluster: slots move, nodes join and follow others."""

from pathlib import Path

from loadtest.servers.binaries import find_redis
from loadtest.servers.ports import free_port
from loadtest.servers.redis import RedisClusterServers, RedisServer


def owner_of(cluster: RedisClusterServers, slot: int) -> RedisServer:
    """The nodes have thirds of the slots."""
    return cluster.nodes[slot * 3 // 16384]


def begin_to_give(cluster: RedisClusterServers, slot: int, to: RedisServer) -> RedisServer:
    """Have a slot on its way to another node: its owner has it still, and asks there for what it lacks."""
    source = owner_of(cluster, slot)
    # Without these the new owner's claim is no newer than the old one's, and the nodes quarrel.
    to.run("CLUSTER", "SETSLOT", str(slot), "IMPORTING", str(source.run("CLUSTER", "MYID")))
    source.run("CLUSTER", "SETSLOT", str(slot), "MIGRATING", str(to.run("CLUSTER", "MYID")))
    return source


def finish_giving(cluster: RedisClusterServers, slot: int, to: RedisServer) -> None:
    """Have the slot where it was on its way to."""
    for server in [to, *(each for each in cluster.nodes if each is not to)]:
        server.run("CLUSTER", "SETSLOT", str(slot), "NODE", str(to.run("CLUSTER", "MYID")))


def give(cluster: RedisClusterServers, slot: int, to: RedisServer) -> None:
    """Move an empty slot, as `redis-cli --cluster reshard` does."""
    begin_to_give(cluster, slot, to)
    finish_giving(cluster, slot, to)


def add_replica(cluster: RedisClusterServers, folder: Path) -> RedisServer:
    """Make a fourth node, which follows the second."""
    settings = {
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": "1000",
        "repl-diskless-sync-delay": "0",
    }
    primary = cluster.nodes[1]
    primary.run("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    for server in cluster.nodes:
        server.run("CONFIG", "SET", "cluster-node-timeout", "1000")
    started = RedisServer(find_redis("installed"), folder, free_port(beside=10_000), settings)
    started.prepare()
    started.again()
    cluster.nodes.append(started)
    started.run("CLUSTER", "MEET", "127.0.0.1", str(primary.port))
    cluster.until_whole()
    started.run("CLUSTER", "REPLICATE", str(primary.run("CLUSTER", "MYID")))
    return started


def follows(replica: RedisServer) -> bool:
    """Whether it has all that its primary has."""
    return "connected" in replica.run("ROLE")
