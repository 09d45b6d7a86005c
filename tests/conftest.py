"""Fixtures that give databases.

One PostgreSQL server of each version runs per test process, started when first asked for; each test has a database
of its own. `--postgres 17,18` chooses the versions, `--postgres path` takes the pg_ctl on PATH, `--postgres none`
leaves out the tests that need one; KAGZI_TEST_POSTGRES_URL names a server to use instead of any of these. Where
pgbouncer is on PATH, the contract of stores is held through it too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Databases, PgBouncer, PostgresServer, binaries, has_pgbouncer

EXTERNAL = "external"


class PostgresServers:
    """The servers of this test process by version."""

    def __init__(self) -> None:
        self._running: dict[str, PostgresServer] = {}
        self._poolers: dict[str, PgBouncer] = {}

    def get(self, version: str) -> PostgresServer:
        """Give the server of a version, started when first asked for."""
        if version not in self._running:
            self._running[version] = PostgresServer(binaries(version)).start()
        return self._running[version]

    def databases(self, version: str) -> Databases:
        """Give the databases of a version's server, or of the one that the environment names."""
        return Databases(os.environ["KAGZI_TEST_POSTGRES_URL"]) if version == EXTERNAL else self.get(version).databases

    def pooler(self, version: str) -> PgBouncer:
        """Give the pooler in front of a version's server, started when first asked for."""
        if version not in self._poolers:
            self._poolers[version] = PgBouncer(self.databases(version).url("postgres")).start()
        return self._poolers[version]

    def close(self) -> None:
        """Stop and remove every server and pooler."""
        for pooler in self._poolers.values():
            pooler.close()
        for server in self._running.values():
            server.close()


# -- choosing ----------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        default="17,18",
        help="versions of PostgreSQL to test on: 17, 18, path (the pg_ctl on PATH), with commas between; or none",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    versions = chosen_versions(metafunc.config)
    servers = [version for version in versions if version != EXTERNAL]
    newest = versions[-1:]
    choices = {
        "postgres_server": [("postgres", version) for version in servers],
        "own_postgres_server": [("postgres", version) for version in servers[-1:]],
        "postgres_url": [("postgres", version) for version in versions],
        "any_database_url": [("sqlite", "file"), *(("postgres", version) for version in newest)],
        "database_url": [("sqlite", "file"), *(("postgres", version) for version in versions)],
        "every_database_url": [
            ("sqlite", "file"),
            ("sqlite", "memory"),
            *(("postgres", version) for version in versions),
            # Where there is one on PATH: the project does not bring it.
            *(("pgbouncer", version) for version in newest if has_pgbouncer()),
        ],
    }
    for fixture, databases in choices.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(
                fixture,
                [_parameter(*each) for each in databases],
                indirect=True,
                scope="session" if fixture == "postgres_server" else "function",
            )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("postgres") and not chosen_versions(item.config):
        pytest.skip("PostgreSQL is left out")


def chosen_versions(config: pytest.Config) -> list[str]:
    """List the versions of PostgreSQL that the tests run on, the one for most of them last."""
    if os.environ.get("KAGZI_TEST_POSTGRES_URL"):
        return [EXTERNAL]
    text = str(config.getoption("--postgres"))
    return [] if text == "none" else text.split(",")


def _parameter(backend: str, kind: str) -> pytest.ParameterSet:
    marks = [pytest.mark.postgres] if backend != "sqlite" else []
    return pytest.param((backend, kind), id=f"{backend}-{kind}", marks=marks)


# -- giving ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[PostgresServers]:
    """The servers of this test process; for tests that want a version by name."""
    servers = PostgresServers()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, postgres_servers: PostgresServers) -> PostgresServer:
    """A server of each chosen version, shared by the tests. Who stops it starts it again."""
    _, version = request.param
    return postgres_servers.get(version)


@pytest.fixture
def own_postgres_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server for one test alone, not started yet: for those that crash it or change its settings."""
    server = PostgresServer(binaries(request.param[1]))
    yield server
    server.close()


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres_servers: PostgresServers) -> Iterator[str]:
    """An empty database on each chosen version."""
    yield from _postgres_database(postgres_servers, request.param[1])


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/kagzi.db"


@pytest.fixture
def any_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database on one of each kind: a SQLite file and the newest PostgreSQL. For most tests."""
    yield from _database(request, tmp_path)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database that several processes can share: a SQLite file and each chosen PostgreSQL."""
    yield from _database(request, tmp_path)


@pytest.fixture
def every_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database on everything there is, memory and a pooler too. For the contract of stores."""
    yield from _database(request, tmp_path)


def _database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    match request.param:
        case ("sqlite", "memory"):
            yield "sqlite://"
        case ("sqlite", _):
            yield f"sqlite:///{folder}/kagzi.db"
        case ("pgbouncer", version):
            servers = request.getfixturevalue("postgres_servers")
            for url in _postgres_database(servers, version):
                yield servers.pooler(version).url(url)
        case (_, version):
            yield from _postgres_database(request.getfixturevalue("postgres_servers"), version)


def _postgres_database(servers: PostgresServers, version: str) -> Iterator[str]:
    databases = servers.databases(version)
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)
