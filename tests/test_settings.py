"""Settings: what is wrong is said at once and with what to do; what is secret is not said at all."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import Settings, SettingsError, effective, load, read, variable
from gateway.settings_table import FROM_FILE, described
from tests.auth.makers import PRIVATE, pem
from tests.test_settings_nodes import DATABASE, REDIS, SEVERAL

SECRET = "a secret of more than thirty-two bytes"
DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"


def problems(**environ: str) -> list[str]:
    """What is wrong with these settings, each sentence."""
    with pytest.raises(SettingsError) as refused:
        load({f"GATEWAY_{name}": value for name, value in environ.items()})
    return refused.value.problems


def problem(**environ: str) -> str:
    (only,) = problems(**environ)
    return only


# -- defaults and where values are from


def test_nothing_has_to_be_set() -> None:
    settings = load({"PATH": "/bin", "UNRELATED": "x"})
    assert (settings.host, settings.port, settings.ops_host, settings.ops_port) == (
        "127.0.0.1",
        8000,
        "127.0.0.1",
        8001,
    )
    assert settings.data_dir == Path("data")
    assert settings.is_loopback
    assert not settings.has_credentials


def test_the_documented_limits_are_the_defaults() -> None:
    settings = load({})
    expected: dict[str, Any] = {
        "max_message_bytes": 65_536,
        "max_fragments": 64,
        "max_json_depth": 32,
        "max_hello_bytes": 4096,
        "hello_timeout_s": 5,
        "max_attachments": 64,
        "max_connections_per_user": 10,
        "max_sessions_per_user": 100,
        "max_connections_per_address": 200,
        "max_frames_per_s": 50,
        "max_frames_burst": 100,
        "max_pings_per_s": 10,
        "max_outbox_bytes": 1_048_576,
        "max_outbox_frames": 256,
        "stall_timeout_s": 30,
        "heartbeat_ms": 25_000,
        "heartbeat_timeout_ms": 60_000,
        "resume_window_s": 120,
        "session_ttl_s": 3600,
        "sweep_s": 5,
        "drain_s": 30,
        "max_accepts_per_s": 500,
        "max_resumes_per_s": 400,
        "max_connection_lifetime_s": 86_400,
    }
    assert {name: getattr(settings, name) for name in expected} == expected


def test_every_default_is_within_its_own_range() -> None:
    for each in described().values():
        if each.default is not None:
            settings = load({each.name: each.default})
            assert getattr(settings, each.field) == getattr(Settings(), each.field), each.name


def test_two_nodes_on_one_machine_have_different_names() -> None:
    assert load({}).node_id != load({}).node_id
    assert load({"GATEWAY_NODE_ID": "node-7"}).node_id == "node-7"


def test_values_are_read_by_their_kind() -> None:
    settings = load(
        {
            "GATEWAY_PORT": "9000",
            "GATEWAY_DRAIN_S": "2.5",
            "GATEWAY_ORIGINS": "https://a.example, http://localhost:3000,https://[::1]:8443",
            "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8,fd00::/8, 192.0.2.1",
            "GATEWAY_LOG_FORMAT": "json",
            "GATEWAY_DATA_DIR": " /var/lib/gateway ",
        }
    )
    assert settings.port == 9000
    assert settings.drain_s == 2.5
    assert settings.origins == ("https://a.example", "http://localhost:3000", "https://[::1]:8443")
    assert [str(network) for network in settings.trusted_proxies] == [
        "10.0.0.0/8",
        "fd00::/8",
        "192.0.2.1/32",
    ]
    assert settings.data_dir == Path("/var/lib/gateway")


def test_where_each_value_is_from_is_known(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    reading = read({"GATEWAY_PORT": "9000", "GATEWAY_JWT_SECRET_FILE": str(file)})
    assert reading.settings.jwt_secret == SECRET
    assert reading.sources["port"] == "environment"
    assert reading.sources["jwt_secret"] == "file"
    assert reading.sources["host"] == "default"


# -- what is wrong


def test_everything_wrong_is_said_at_once() -> None:
    said = problems(PORT="http", SWEEP_S="-1", JWT_SECRET="short", PROT="1", LOG_LEVEL="loud")
    assert len(said) == 5


@pytest.mark.parametrize(
    ("misspelt", "nearest"),
    [
        ("PROT", "PORT"),
        ("JWT_KEY", "JWT_SECRET_FILE"),
        ("ORIGIN", "ORIGINS"),
        ("MAX_FRAMES_PER_SECOND", "MAX_FRAMES_PER_S"),
        ("DATADIR", "DATA_DIR"),
        ("PORT_FILE", "PORT"),
        ("HEARTBEAT_S", "HEARTBEAT_MS"),
    ],
)
def test_an_unknown_setting_names_its_neighbour(misspelt: str, nearest: str) -> None:
    sentence = problem(**{misspelt: "1"})
    assert sentence.startswith(f"GATEWAY_{misspelt} is not a setting; the nearest is GATEWAY_")
    if misspelt != "JWT_KEY":
        assert sentence.endswith(f" GATEWAY_{nearest}.")


def test_settings_of_later_parts_are_not_parsed_and_ignored() -> None:
    assert "is not a setting" in problem(STREAM_CREDIT_MS="1500")


def test_an_empty_value_is_no_value() -> None:
    for name in ("PORT", "JWT_SECRET", "ORIGINS", "HOST"):
        assert problem(**{name: "  "}) == f"GATEWAY_{name} is empty: give it a value or remove it."


@pytest.mark.parametrize("value", ["65536", "-1", "8000.0", "0x50", "8_000", "٨", "1e3", "nan", "9" * 30])
def test_a_number_out_of_range_or_no_number_is_told_its_range(value: str) -> None:
    assert "from 0 to 65535" in problem(PORT=value)


@pytest.mark.parametrize("value", ["inf", "nan", "1e2", "0", "-5", "301", "five"])
def test_a_duration_has_a_range_too(value: str) -> None:
    assert "from 0.05 to 300" in problem(SWEEP_S=value)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://a.example/",
        "https://a.example/chat",
        "a.example",
        "https://*.example",
        "HTTPS://A.example",
        "ftp://a.example",
        "https://user@a.example",
    ],
)
def test_an_origin_is_exact_or_wrong(origin: str) -> None:
    assert "is not an exact origin" in problem(ORIGINS=f"https://good.example,{origin}")


def test_a_network_is_written_as_one() -> None:
    assert "is not a network" in problem(TRUSTED_PROXIES="10.0.0.1/8")
    assert "is not a network" in problem(TRUSTED_PROXIES="proxy.example")


def test_a_host_is_no_url() -> None:
    for host in ("http://127.0.0.1", "127.0.0.1:80", "a b", "-x", "127.0.0.1/8"):
        assert "is not a host" in problem(HOST=host)


def test_contradictions_are_found() -> None:
    assert "different ports" in problem(PORT="9000", OPS_PORT="9000")
    assert "closed as silent" in problem(HEARTBEAT_MS="60000")
    assert "could not be sent" in problem(MAX_MESSAGE_BYTES="2000000")
    load({"GATEWAY_PORT": "0", "GATEWAY_OPS_PORT": "0"})
    load({"GATEWAY_PORT": "9000", "GATEWAY_OPS_PORT": "9000", "GATEWAY_OPS_HOST": "127.0.0.2"})


def test_service_links_of_kubernetes_are_recognised() -> None:
    said = problems(
        PORT="tcp://10.0.0.1:8000", SERVICE_HOST="10.0.0.1", SERVICE_PORT="80", PORT_80_TCP_ADDR="10.0.0.1"
    )
    assert len(said) == 4
    assert all("enableServiceLinks: false" in sentence for sentence in said)


# -- credentials


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_this_machine_alone_needs_no_credential(host: str) -> None:
    assert load({"GATEWAY_HOST": host}).is_loopback


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.0.2.1", "gateway.example", "localhost.example"],  # noqa: S104
)
def test_another_address_needs_a_credential(host: str) -> None:
    sentence = problem(HOST=host)
    for name in ("GATEWAY_JWT_SECRET", "GATEWAY_JWT_PUBLIC_KEY", "GATEWAY_JWKS_URL", "127.0.0.1"):
        assert name in sentence
    assert not load({"GATEWAY_HOST": host, "GATEWAY_JWT_SECRET": SECRET}).is_loopback


def test_a_short_secret_is_refused_by_its_length() -> None:
    assert "has 31 bytes, HS256 needs at least 32" in problem(JWT_SECRET="x" * 31)
    assert load({"GATEWAY_JWT_SECRET": "x" * 32}).jwt_secret == "x" * 32
    assert load({"GATEWAY_JWT_SECRET": "ü" * 16}).jwt_secret == "ü" * 16


def test_a_public_key_is_not_taken_for_a_secret() -> None:
    assert "GATEWAY_JWT_PUBLIC_KEY" in problem(JWT_SECRET=pem(PRIVATE["RS256"]))


def test_one_way_to_check_tokens_is_enough() -> None:
    said = problem(JWT_SECRET=SECRET, JWKS_URL="https://issuer.example/keys")
    assert "GATEWAY_JWT_SECRET and GATEWAY_JWKS_URL" in said


def test_a_public_key_may_stand_in_one_line() -> None:
    text = pem(PRIVATE["ES256"])
    assert load({"GATEWAY_JWT_PUBLIC_KEY": text.replace("\n", "\\n")}).jwt_public_key == text.strip()


def test_a_private_key_is_refused_where_a_public_one_belongs() -> None:
    private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"
    assert "give its public half" in problem(JWT_PUBLIC_KEY=private)
    assert "is not a PEM public key" in problem(JWT_PUBLIC_KEY="AAAA")


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/keys",
        "ftp://issuer.example/keys",
        "issuer.example",
        "https://",
        "https://user:pass@issuer.example/",
        "https://issuer.example/#keys",
        "https://issuer.example:port/",
        "https://[::1/",
        "https://issuer.example/a b\x00",
        "file:///etc/passwd",
    ],
)
def test_keys_come_over_https_or_from_this_machine(url: str) -> None:
    assert problem(JWKS_URL=url).startswith("GATEWAY_JWKS_URL")


@pytest.mark.parametrize(
    "url", ["https://issuer.example/keys?v=1", "http://127.0.0.1:9000/keys", "http://[::1]/"]
)
def test_a_key_set_has_a_url(url: str) -> None:
    assert load({"GATEWAY_JWKS_URL": url}).jwks_url == url


# -- files


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    contents = {
        "jwt_secret": SECRET,
        "jwt_public_key": pem(PRIVATE["ES256"]).strip(),
        "database_url": DATABASE,
        "redis_url": REDIS,
        "redis_password": "p@ss",
        "webhook_url": "https://hooks.example/x",
        "webhook_secret": SECRET,
    }
    assert set(contents) == FROM_FILE
    for field, content in contents.items():
        (tmp_path / field).write_text(content + "\r\n")
        around = {
            "redis_url": {"GATEWAY_DATABASE_URL": DATABASE},
            "redis_password": SEVERAL,
            "webhook_url": {"GATEWAY_WEBHOOK_SECRET": SECRET},
            "webhook_secret": {"GATEWAY_WEBHOOK_URL": "https://hooks.example"},
        }.get(field, {})
        settings = load({f"{variable(field)}_FILE": str(tmp_path / field), **around})
        assert getattr(settings, field) in (content, (content,))


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    said = problem(JWT_SECRET=SECRET, JWT_SECRET_FILE=str(tmp_path / "secret"))
    assert said == "GATEWAY_JWT_SECRET and GATEWAY_JWT_SECRET_FILE are both set: keep one of them."


def test_a_file_that_holds_no_secret_is_told(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert "cannot be read" in problem(JWT_SECRET_FILE=str(file))
    assert "cannot be read" in problem(JWT_SECRET_FILE=str(tmp_path))
    file.write_text("\n")
    assert "names an empty file" in problem(JWT_SECRET_FILE=str(file))
    file.write_bytes(b"\xff" * 40)
    assert "is not text" in problem(JWT_SECRET_FILE=str(file))
    file.write_bytes(b"x" * 70_000)
    assert "larger than" in problem(JWT_SECRET_FILE=str(file))
    assert "is empty" in problem(JWT_SECRET_FILE=" ")


# -- masking


def test_no_secret_is_shown() -> None:
    reading = read({"GATEWAY_JWT_SECRET": SECRET})
    shown = {each.name: each for each in effective(reading)}
    assert shown["GATEWAY_JWT_SECRET"].value == "***"
    assert shown["GATEWAY_JWT_SECRET"].source == "environment"
    for text in (repr(reading), repr(reading.settings), str(effective(reading))):
        assert SECRET not in text
    assert "jwt_secret=None" in repr(load({}))


def test_values_are_shown_in_one_line_each() -> None:
    environ = {"GATEWAY_JWT_PUBLIC_KEY": pem(PRIVATE["ES256"]), "GATEWAY_ORIGINS": "http://a,http://b"}
    shown = {each.name: each.value for each in effective(read(environ))}
    assert shown["GATEWAY_JWT_PUBLIC_KEY"] == "-----BEGIN PUBLIC KEY----- …"
    assert shown["GATEWAY_ORIGINS"] == "http://a,http://b"
    assert shown["GATEWAY_TRUSTED_PROXIES"] == "–"
    assert shown["GATEWAY_SWEEP_S"] == "5"
    assert all("\n" not in value for value in shown.values())


def test_a_node_has_a_name_that_can_be_part_of_a_key() -> None:
    for name in ("a b", "a{b}", "x" * 65):
        assert "is not a name" in problem(NODE_ID=name)


@given(st.text(min_size=1, max_size=31).filter(str.strip))
def test_no_error_repeats_a_secret(secret: str) -> None:
    if len(secret.encode("utf-8", "surrogatepass")) >= 32:
        return
    said = problem(JWT_SECRET=secret)
    assert re.fullmatch(r"GATEWAY_JWT_SECRET has \d+ bytes, HS256 needs at least 32: .*", said)


# -- the document


def test_the_document_lists_every_setting_as_the_code_has_it() -> None:
    rows = re.findall(
        r"^\| `(GATEWAY_\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    expected = [
        (each.name, f"`{each.default}`" if each.default else "–", each.range, each.meaning)
        for each in described().values()
    ]
    assert sorted(rows) == sorted(expected)


def test_the_document_names_no_setting_that_does_not_exist() -> None:
    named = set(re.findall(r"GATEWAY_[A-Z_]*[A-Z]", DOCUMENT.read_text()))
    known = {each.name for each in described().values()} | {f"{variable(field)}_FILE" for field in FROM_FILE}
    assert named <= known
