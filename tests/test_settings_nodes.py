"""The settings of several nodes: URLs that are right, what is said of wrong ones, no password anywhere."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.places import places_of
from gateway.settings import SettingsError, effective, load, read
from store.open import Places

DATABASE = "postgresql://gateway@db.example:5432/chat"
REDIS = "redis://redis.example:6379/0"
SEVERAL = {"GATEWAY_DATABASE_URL": DATABASE, "GATEWAY_REDIS_URL": REDIS}


def problem(**environ: str) -> str:
    """The one thing that is wrong with these settings."""
    with pytest.raises(SettingsError) as refused:
        load({f"GATEWAY_{name}": value for name, value in environ.items()})
    (only,) = refused.value.problems
    return only


def test_a_node_of_many_is_two_urls() -> None:
    settings = load(SEVERAL)
    assert (settings.database_url, settings.redis_url) == (DATABASE, REDIS)
    assert (settings.redis_prefix, settings.database_pool, settings.database_timeout_s) == ("gateway", 8, 5)
    assert load({}).database_url is None


@pytest.mark.parametrize(
    "url",
    [
        "postgres://h/d",
        "postgresql://u:p%40@h1:5432,h2:5433/d?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://[::1]:5432/d",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u@h?dbname=d",
    ],
)
def test_a_database_has_a_url(url: str) -> None:
    assert load({"GATEWAY_DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://u:p@h:6380/3?ssl_ca_certs=/etc/ca.pem",
        "redis+cluster://h:7000",
        "rediss+cluster://h:7000/0",
        "redis://[::1]:6379/",
    ],
)
def test_a_redis_has_a_url(url: str) -> None:
    assert load(SEVERAL | {"GATEWAY_REDIS_URL": url}).redis_url == url


PASSWORD = "hunter2"
WRONG_URLS = [
    ("DATABASE_URL", f"mysql://u:{PASSWORD}@h/d", "begin with postgresql:// or postgres://"),
    ("DATABASE_URL", f"postgresql:u:{PASSWORD}@h/d", "begin with postgresql:// or postgres://"),
    ("DATABASE_URL", f"host=h password={PASSWORD}", "holds a character"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}@/d", "names no host"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}@h", "names no database"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}@h/", "names no database"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}@h:port/d", "host or port"),
    ("DATABASE_URL", f"postgresql://[u:{PASSWORD}@h/d", "is not a URL"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}@x@h/d", "has to be escaped"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}/x@h/d", "has to be escaped"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}?x@h/d", "has to be escaped"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}#x@h/d", "has to be escaped"),
    ("DATABASE_URL", f"postgresql://u:{PASSWORD}ü@h/d", "holds a character"),
    ("REDIS_URL", f"http://u:{PASSWORD}@h", "begin with redis://, rediss://, redis+cluster:// or rediss+"),
    ("REDIS_URL", f"unix://{PASSWORD}", "begin with redis://"),
    ("REDIS_URL", f"redis://u:{PASSWORD}@", "no host or port"),
    ("REDIS_URL", f"redis://u:{PASSWORD}@h1,h2", "no host or port"),
    ("REDIS_URL", f"redis://u:{PASSWORD}@h/name", "path that is no number"),
    ("REDIS_URL", f"redis+cluster://u:{PASSWORD}@h/3", "only the database 0"),
    ("REDIS_URL", f"redis://u:{PASSWORD}@h?socket_timeout=60", "has an option"),
    ("REDIS_URL", f"redis://u:{PASSWORD}@h?db", "has an option"),
    ("REDIS_URL", f"redis://u:{PASSWORD}#1@h", "has to be escaped"),
]


@pytest.mark.parametrize(("name", "url", "said"), WRONG_URLS)
def test_a_wrong_url_is_told_without_being_repeated(name: str, url: str, said: str) -> None:
    sentence = problem(**{"DATABASE_URL": DATABASE, name: url})
    assert sentence.startswith(f"GATEWAY_{name} ")
    assert said in sentence
    assert PASSWORD not in sentence


def test_redis_without_a_shared_database_is_refused() -> None:
    assert "GATEWAY_DATABASE_URL is not: nodes that share a Redis share a Postgres" in problem(
        REDIS_URL=REDIS
    )
    load({"GATEWAY_DATABASE_URL": DATABASE})


def test_a_password_is_given_once_and_for_something(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    both = SEVERAL | {"GATEWAY_DATABASE_PASSWORD": PASSWORD, "GATEWAY_DATABASE_PASSWORD_FILE": str(file)}
    for environ, sentence in (
        ({"GATEWAY_DATABASE_PASSWORD": PASSWORD}, "GATEWAY_DATABASE_URL is not"),
        ({"GATEWAY_DATABASE_PASSWORD_FILE": str(file)}, "GATEWAY_DATABASE_URL is not"),
        ({"GATEWAY_REDIS_PASSWORD": PASSWORD}, "GATEWAY_REDIS_URL is not"),
        (both, "are both set: keep one"),
        (both | {"GATEWAY_DATABASE_PASSWORD_FILE": ""}, "_FILE is empty"),
        (
            {"GATEWAY_DATABASE_URL": "postgresql://u:p@h/d", "GATEWAY_DATABASE_PASSWORD": PASSWORD},
            "both give a password",
        ),
        (
            SEVERAL | {"GATEWAY_REDIS_URL": "redis://:p@h", "GATEWAY_REDIS_PASSWORD": PASSWORD},
            "both give a password",
        ),
        (SEVERAL | {"GATEWAY_DATABASE_PASSWORD_FILE": str(tmp_path / "none")}, "cannot be read"),
    ):
        with pytest.raises(SettingsError, match=re.escape(sentence)) as refused:
            load(environ)
        assert PASSWORD not in str(refused.value)
    file.write_text("\n")
    with pytest.raises(SettingsError, match="names an empty file"):
        load(SEVERAL | {"GATEWAY_DATABASE_PASSWORD_FILE": str(file)})


def test_the_stores_are_told_what_was_set(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    settings = load(
        SEVERAL
        | {
            "GATEWAY_DATABASE_PASSWORD_FILE": str(file),
            "GATEWAY_DATABASE_POOL": "3",
            "GATEWAY_DATABASE_TIMEOUT_S": "1.5",
            "GATEWAY_REDIS_PASSWORD": "p@ss:/#?",
            "GATEWAY_REDIS_PREFIX": "chat",
            "GATEWAY_NODE_ID": "n7",
            "GATEWAY_DATA_DIR": "/var/lib/gateway",
        }
    )
    assert places_of(settings) == Places(
        data_dir=Path("/var/lib/gateway"),
        node_id="n7",
        database_url=DATABASE,
        database_password_file=file,
        database_pool=3,
        database_timeout_s=1.5,
        redis_url="redis://:p%40ss%3A%2F%23%3F@redis.example:6379/0",
        redis_prefix="chat",
    )
    apart = load({"GATEWAY_DATABASE_URL": DATABASE, "GATEWAY_DATABASE_PASSWORD": "p@ss"})
    assert places_of(apart).database_url == "postgresql://gateway:p%40ss@db.example:5432/chat"
    assert places_of(load({"GATEWAY_NODE_ID": "n7"})) == Places(Path("data"), node_id="n7")


def test_a_prefix_cannot_break_a_key() -> None:
    for prefix in ("a b", "a{b}", "x" * 65, "ü"):
        assert "is not a name" in problem(REDIS_PREFIX=prefix)
    assert load({"GATEWAY_REDIS_PREFIX": "chat:prod"}).redis_prefix == "chat:prod"


def test_of_a_url_is_shown_what_is_no_secret() -> None:
    environ = {
        "GATEWAY_DATABASE_URL": f"postgresql://u:{PASSWORD}@h1,h2/d?sslpassword={PASSWORD}",
        "GATEWAY_REDIS_URL": f"rediss://:{PASSWORD}@h:6380/1?ssl_ca_certs=/x",
    }
    reading = read(environ)
    shown = {each.name: each.value for each in effective(reading)}
    assert shown["GATEWAY_DATABASE_URL"] == "postgresql://u:***@h1,h2/d"
    assert shown["GATEWAY_REDIS_URL"] == "rediss://:***@h:6380/1"
    assert PASSWORD not in repr(reading)
    reading = read(
        {"GATEWAY_DATABASE_URL": "postgresql:///d?host=/run", "GATEWAY_DATABASE_PASSWORD": PASSWORD}
    )
    shown = {each.name: each.value for each in effective(reading)}
    assert shown["GATEWAY_DATABASE_URL"] == "postgresql:///run/d"
    assert shown["GATEWAY_DATABASE_PASSWORD"] == "***"


@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=20))
def test_no_password_in_a_url_leaves_it(password: str) -> None:
    for name, url in (("DATABASE_URL", "postgresql://u:{}@h/d"), ("REDIS_URL", "redis://u:{}@h")):
        secret = f"xXx{password}xXx"
        try:
            reading = read(SEVERAL | {f"GATEWAY_{name}": url.format(secret)})
            said = str(effective(reading)) + repr(reading)
        except SettingsError as error:
            said = str(error)
        assert "xXx" not in said


@pytest.mark.parametrize(
    "url", ["wss://n1.example/ws", "ws://127.0.0.1:8000/ws", "wss://[::1]:8443/a/ws", "wss://n1_a.pod:1/x"]
)
def test_a_node_advertises_the_address_of_its_socket(url: str) -> None:
    assert load({"GATEWAY_ADVERTISE_URL": url}).advertise_url == url
    assert load({}).advertise_url is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://n1.example/ws", "wss:// or ws://"),
        ("n1.example/ws", "wss:// or ws://"),
        ("wss:n1.example/ws", "wss:// or ws://"),
        ("wss://n1.example", "has no path"),
        ("wss://n1.example/", "has no path"),
        ("wss:///ws", "host or port"),
        ("wss://n1.example:0/ws", "host or port"),
        ("wss://n1.example:99999/ws", "not a URL"),
        ("wss://n1.example:x/ws", "not a URL"),
        ("wss://[n1/ws", "not a URL"),
        ("wss://u:hush@n1.example/ws", "a user"),
        ("wss://n1.example/ws?token=hush", "a query"),
        ("wss://n1.example/ws#hush", "a fragment"),
        ("wss://n1 example/ws", "host or port"),
        ("wss://n1.example/" + "w" * 600, "host or port"),
    ],
)
def test_an_address_that_no_client_could_open_is_refused_at_the_start(url: str, said: str) -> None:
    told = problem(ADVERTISE_URL=url)
    assert said in told
    assert "wss://n1.example.org/ws" in told
    assert "hush" not in told
