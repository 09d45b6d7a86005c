"""Settings: from code, from the environment, and refused by name where they can't work."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from kagzi import ConfigError, Kagzi, KagziError, Settings

SECRET = "hunter2-s3cret"


def test_every_setting_can_be_given_in_the_environment() -> None:
    given = {
        "KAGZI_DATABASE_URL": "sqlite://",
        "KAGZI_SCHEMA": "other",
        "KAGZI_NAMESPACE": "shop",
        "KAGZI_AUTO_MIGRATE": "no",
        "KAGZI_PAYLOAD_LIMIT": "1000",
        "KAGZI_POOL_SIZE": "3",
        "KAGZI_STORE_TIMEOUT": "1.5",
        "KAGZI_JOURNAL_CAPACITY": "7",
        "KAGZI_PARK_AFTER": "0",
        "KAGZI_CANCEL_GRACE": "3",
        "KAGZI_EVENT_RETENTION": "9",
        "KAGZI_MAX_CONCURRENT_WORKFLOWS": "5",
        "KAGZI_MAX_CONCURRENT_STEPS": "6",
        "KAGZI_MAX_STEP_THREADS": "2",
        "KAGZI_MAX_STEP_PROCESSES": "8",
        "KAGZI_HEARTBEAT_INTERVAL": "2",
        "KAGZI_LEASE": "20",
        "KAGZI_POLL_INTERVAL": "0.25",
        "KAGZI_GRACEFUL_SHUTDOWN_TIMEOUT": "0",
        "KAGZI_BUILD_ID": "1f3a",
        "KAGZI_POISON_AFTER": "4",
        "KAGZI_LOOP_LAG_WARNING": "0.2",
        "KAGZI_BODY_WARNING": "0.3",
        "KAGZI_HEALTH_PORT": "8080",
        "KAGZI_HEALTH_HOST": "127.0.0.1",
    }
    assert set(given) == {setting.metadata["variable"] for setting in fields(Settings)}

    settings = Settings.from_environment(given)

    assert settings == Settings(
        database_url="sqlite://",
        schema="other",
        namespace="shop",
        auto_migrate=False,
        payload_limit=1000,
        pool_size=3,
        store_timeout=timedelta(seconds=1.5),
        journal_capacity=7,
        park_after=timedelta(0),
        cancel_grace=timedelta(seconds=3),
        event_retention=timedelta(seconds=9),
        max_concurrent_workflows=5,
        max_concurrent_steps=6,
        max_step_threads=2,
        max_step_processes=8,
        heartbeat_interval=timedelta(seconds=2),
        lease=timedelta(seconds=20),
        poll_interval=timedelta(seconds=0.25),
        graceful_shutdown_timeout=timedelta(0),
        build_id="1f3a",
        poison_after=4,
        loop_lag_warning=timedelta(seconds=0.2),
        body_warning=timedelta(seconds=0.3),
        health_port=8080,
        health_host="127.0.0.1",
    )


def test_an_application_takes_its_settings_from_the_environment_and_its_url_from_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAGZI_DATABASE_URL", "sqlite:///environment.db")
    monkeypatch.setenv("KAGZI_NAMESPACE", "shop")
    monkeypatch.setenv("KAGZI_POOL_SIZE", "")  # as good as not set

    by_environment, by_code = Kagzi(), Kagzi("sqlite:///code.db")

    assert by_environment.settings.database_url == "sqlite:///environment.db"
    assert by_code.settings.database_url == "sqlite:///code.db"
    assert by_code.settings.namespace == "shop"
    assert by_code.settings.pool_size == Settings().pool_size


def test_without_anything_the_database_is_a_file_beside_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGZI_DATABASE_URL", raising=False)

    assert Kagzi().settings.database_url == "sqlite:///kagzi.db"


def test_a_url_and_settings_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="put the url into the settings"):
        Kagzi("sqlite://", settings=Settings())


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("KAGZI_POOL_SIZE", "many", "must be a whole number"),
        ("KAGZI_POOL_SIZE", "0", "1 or more"),
        ("KAGZI_POOL_SIZE", "-3", "1 or more"),
        ("KAGZI_HEALTH_PORT", "-1", "from 0 to 65535"),
        ("KAGZI_HEALTH_PORT", "65536", "from 0 to 65535"),
        ("KAGZI_LEASE", "a minute", "must be a number of seconds"),
        ("KAGZI_LEASE", "nan", "must be a number of seconds"),
        ("KAGZI_LEASE", "inf", "must be a number of seconds"),
        ("KAGZI_LEASE", "1e300", "must be a number of seconds"),
        ("KAGZI_LEASE", "-60", "above zero"),
        ("KAGZI_PARK_AFTER", "-1", "zero or more"),
        ("KAGZI_LEASE", "15", "two heartbeats"),
        ("KAGZI_HEARTBEAT_INTERVAL", "0", "above zero"),
        ("KAGZI_POLL_INTERVAL", "0", "above zero"),
        ("KAGZI_STORE_TIMEOUT", "0", "above zero"),
        ("KAGZI_AUTO_MIGRATE", "maybe", "must be true or false"),
    ],
)
def test_a_value_in_the_environment_that_cannot_work_is_refused_naming_the_variable(
    variable: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        Settings.from_environment({variable: text})

    assert variable in str(refusal.value)


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "On"])
def test_a_switch_is_turned_on_in_many_words(text: str) -> None:
    assert Settings.from_environment({"KAGZI_AUTO_MIGRATE": text}).auto_migrate is True


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lease": 60}, r"lease \(KAGZI_LEASE\) is 60, but must be a timedelta"),
        ({"park_after": 1.0}, r"park_after \(KAGZI_PARK_AFTER\) is 1.0, but must be a timedelta"),
        ({"pool_size": "8"}, r"pool_size \(KAGZI_POOL_SIZE\) is '8', but must be an int"),
        ({"pool_size": True}, r"pool_size \(KAGZI_POOL_SIZE\) is True, but must be an int"),
        ({"auto_migrate": "no"}, r"auto_migrate \(KAGZI_AUTO_MIGRATE\) is 'no', but must be a bool"),
        ({"database_url": SECRET.encode()}, r"database_url \(KAGZI_DATABASE_URL\) is of type bytes, but must be a str"),
        ({"namespace": None}, r"namespace \(KAGZI_NAMESPACE\) is None, but must be a str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_when_it_is_given(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**given)


@pytest.mark.parametrize("namespace", ["", "x" * 256, "a\0b", "\ud800"])
def test_a_namespace_that_no_store_can_keep_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError, match="KAGZI_NAMESPACE"):
        Kagzi(settings=Settings(database_url="sqlite://", namespace=namespace))


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="no setting 'colour'"):
        Settings.from_environment({}, colour="red")


# -- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [f"postgresql://user:{SECRET}@localhost/db", f"mysql://user:{SECRET}@localhost/db"])
def test_no_repr_shows_a_password(url: str) -> None:
    kagzi = Kagzi(url)

    shown = [repr(kagzi), str(kagzi), repr(kagzi.settings), str(kagzi.settings), f"{kagzi.settings}"]

    assert not [text for text in shown if SECRET in text]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/db",
        f"postgresql://user:{SECRET}@127.0.0.1:notaport/db",
        f"postgresql://user:{SECRET}@127.0.0.1:99999/db",
        f"postgresql://user:{SECRET}@[::1/db",
        f"postgresql://user:{SECRET}@127.0.0.1:1/db?pooler=maybe",
        f"postgresql://user:{SECRET}@127.0.0.1:1/db?sslmode=maybe",
        f"postgresql://127.0.0.1:1/db?user=user&password={SECRET}",
        f"mysql://user:{SECRET}@localhost/db",
        f"//user:{SECRET}@localhost/db",
        f"postgresql://user:pa/{SECRET}@localhost/db",
        f"postgresql://user:12/{SECRET}@localhost/db",
        f"postgresql://user:pa?{SECRET}@localhost/db",
        f"postgresql://user:{SECRET}#x@localhost/db",
    ],
)
async def test_no_error_of_connecting_shows_a_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KagziError) as refusal:
        await Kagzi.connect(settings=Settings(database_url=url, store_timeout=timedelta(seconds=5)))

    assert SECRET not in str(refusal.value)
    assert SECRET not in caplog.text
