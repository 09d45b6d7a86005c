-- Times are integer microseconds since 1970 in UTC: exact, and compared as numbers. Payloads are text.

CREATE TABLE workflow_runs (
    run_id        TEXT    NOT NULL PRIMARY KEY,
    namespace     TEXT    NOT NULL,
    id            TEXT,
    workflow      TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    queue         TEXT    NOT NULL,
    priority      INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 1,
    crashes       INTEGER NOT NULL DEFAULT 0,
    wakeups       INTEGER NOT NULL DEFAULT 0,
    progress      INTEGER NOT NULL DEFAULT 0, -- greatest seq when the run was last taken from a dead worker
    fence         INTEGER NOT NULL DEFAULT 0,
    inbox         INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER,
    available_at  INTEGER, -- NULL while RUNNING or ended, or where only an outside event wakes the run
    worker_key    TEXT,
    parent_run_id TEXT,
    tags          TEXT    NOT NULL DEFAULT '[]',
    attributes    TEXT,
    waits         TEXT,
    -- Payloads come last: a listing, a claim's search and a fence check never follow a row's overflow pages to the end.
    input         TEXT    NOT NULL,
    output        TEXT,
    error         TEXT,
    CHECK (status IN ('PENDING', 'RUNNING', 'SLEEPING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    CHECK ((status = 'RUNNING') = (worker_key IS NOT NULL))
) STRICT;

-- Few indexes, for every change of status writes to each that holds the row.

-- Runs without an id of the caller's are known by run_id alone and are not in here.
CREATE UNIQUE INDEX workflow_runs_id ON workflow_runs (namespace, id) WHERE id IS NOT NULL;

-- The claim: one lane is (namespace, queue, workflow, version, priority), in it the longest due comes first. Runs that
-- only an outside event wakes are in it too (NULLs come before every time), so that the open runs can be counted
-- without reading the finished ones. A statement must repeat the condition word for word to be offered this index.
CREATE INDEX workflow_runs_claim
    ON workflow_runs (namespace, queue, workflow, version, priority DESC, available_at)
    WHERE status IN ('PENDING', 'SLEEPING');

CREATE INDEX workflow_runs_owner ON workflow_runs (worker_key) WHERE worker_key IS NOT NULL;

CREATE INDEX workflow_runs_failed ON workflow_runs (namespace, run_id) WHERE status IN ('FAILED', 'CANCELLED');

-- WITHOUT ROWID: a history is one range of one tree, and a checkpoint writes one tree (160 against 163 thousand small
-- rows a second in hundreds, 262 against 240 in five hundreds; 41 against 48 with payloads of 2 kB).
CREATE TABLE step_runs (
    run_id       TEXT    NOT NULL,
    step_id      TEXT    NOT NULL,
    seq          INTEGER, -- NULL while not finished
    kind         TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    output       TEXT,
    error        TEXT,
    attempts     INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    wake_at      INTEGER,
    child_run_id TEXT,
    PRIMARY KEY (run_id, step_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE step_attempts (
    run_id  TEXT    NOT NULL,
    step_id TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    message TEXT    NOT NULL,
    error   TEXT,
    at      INTEGER NOT NULL,
    PRIMARY KEY (run_id, step_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    run_id     TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    payload    TEXT,
    dedup_key  TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, position)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX messages_dedup_key ON messages (run_id, dedup_key) WHERE dedup_key IS NOT NULL;

CREATE TABLE workers (
    key           TEXT    NOT NULL PRIMARY KEY,
    worker_id     TEXT    NOT NULL,
    namespace     TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    pid           INTEGER NOT NULL,
    queues        TEXT    NOT NULL, -- JSON: ["default"]
    workflows     TEXT    NOT NULL, -- JSON: [["order", 1]]
    slots         INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    build_id      TEXT,
    load          TEXT,
    registered_at INTEGER NOT NULL,
    beat_at       INTEGER NOT NULL,
    lease_until   INTEGER NOT NULL,
    ended_at      INTEGER,
    CHECK (state IN ('STARTING', 'RUNNING', 'DRAINING', 'STOPPED', 'DEAD'))
) STRICT, WITHOUT ROWID;

CREATE INDEX workers_living ON workers (namespace, lease_until) WHERE ended_at IS NULL;

CREATE TABLE workflow_versions (
    namespace       TEXT    NOT NULL,
    workflow        TEXT    NOT NULL,
    default_version INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow)
) STRICT, WITHOUT ROWID;
