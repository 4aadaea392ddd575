"""The Redis servers of the tests: they keep nothing, stop on demand, and a cluster is one."""

from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import MovedError
from redis.retry import Retry

from loadtest.servers.binaries import Version
from loadtest.servers.child import ServerFailed
from loadtest.servers.redis import RedisClusterServers, RedisServer
from tests.waiting import until


def nodes_that_take(cluster: RedisClusterServers, key: str) -> list[int]:
    """Write to each node; the ports of those that did not send us elsewhere. All others name the same one."""
    taken_by, named = [], set()
    for node in cluster.nodes:
        try:
            node.run("SET", key, "1", "PX", "1000")
        except MovedError as moved:
            named.add(moved.port)
        else:
            taken_by.append(node.port)
    assert named == set(taken_by)
    return taken_by


@pytest.mark.parametrize("version", ["installed", "packaged"])
def test_killed_and_started_again_it_is_empty_on_the_same_port(tmp_path: Path, version: Version) -> None:
    with RedisServer.start(tmp_path, version=version) as server:
        url = server.url
        server.run("SET", "key", "value")
        assert server.run("GET", "key") == "value"
        for end in (server.kill, server.stop):
            end()
            assert not server.is_running
            with pytest.raises(redis.ConnectionError):
                server.run("PING")
            server.again()
            assert server.url == url
            assert server.run("GET", "key") is None
    assert list(tmp_path.glob("*.rdb")) == []


async def test_paused_it_answers_nobody_until_it_goes_on(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path) as server:
        server.pause()
        with (
            redis.Redis(port=server.port, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(redis.TimeoutError),
        ):
            client.ping()
        server.resume()
        await until(lambda: server.run("PING"))
        server.pause()  # and is ended all the same


def test_settings_are_lines_of_its_configuration(tmp_path: Path) -> None:
    limit = "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 0 0"
    settings = {"client-output-buffer-limit": "pubsub 1mb 0 0", "maxmemory": "32mb"}
    with RedisServer.start(tmp_path, settings=settings) as server:
        assert (
            server.run("CONFIG", "GET", "client-output-buffer-limit")["client-output-buffer-limit"] == limit
        )
        assert server.run("CONFIG", "GET", "maxmemory") == {"maxmemory": str(32 * 2**20)}


def test_a_redis_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="Bad directive or wrong number of arguments"):
        RedisServer.start(tmp_path, settings={"no-such-setting": "1"})


def test_with_tls_it_is_known_by_its_authority_and_serves_nobody_in_the_clear(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path, version="installed", tls=True) as server:
        assert server.run("PING")
        with (
            redis.Redis(port=server.port, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as plain,
            pytest.raises(redis.ConnectionError),
        ):
            plain.ping()


def test_the_versions_are_those_that_are_promised(redis7: RedisServer, redis62: RedisServer) -> None:
    assert redis7.run("INFO", "server")["redis_version"] == redis7.version_number
    assert redis62.run("INFO", "server")["redis_version"] == redis62.version_number


def test_every_node_of_the_cluster_has_its_part_of_the_slots(redis_cluster: RedisClusterServers) -> None:
    assert len(redis_cluster.nodes) == 3
    taken_by = {port for number in range(50) for port in nodes_that_take(redis_cluster, f"slots:{number}")}
    assert taken_by == {node.port for node in redis_cluster.nodes}


@pytest.mark.parametrize("version", ["installed", "packaged"])
def test_a_node_of_the_cluster_comes_back_to_its_slots(tmp_path: Path, version: Version) -> None:
    with RedisClusterServers.start(tmp_path, version=version) as cluster:
        cluster.nodes[1].kill()
        cluster.nodes[1].again()
        cluster.until_whole()
        for number in range(20):
            assert len(nodes_that_take(cluster, f"key{number}")) == 1
