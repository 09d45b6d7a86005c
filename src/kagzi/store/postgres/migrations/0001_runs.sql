-- Payloads are text: a codec may encrypt them, and jsonb would change them (key order, numbers, NUL escapes).

CREATE TABLE {schema}.workflow_runs (
    run_id        uuid        PRIMARY KEY,
    namespace     text        NOT NULL,
    id            text,
    workflow      text        NOT NULL,
    version       integer     NOT NULL,
    queue         text        NOT NULL,
    priority      integer     NOT NULL,
    status        text        NOT NULL
        CHECK (status IN ('PENDING', 'RUNNING', 'SLEEPING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    input         text        NOT NULL,
    output        text,
    error         text,
    attempts      integer     NOT NULL DEFAULT 1,
    crashes       integer     NOT NULL DEFAULT 0,
    wakeups       integer     NOT NULL DEFAULT 0,
    progress      integer     NOT NULL DEFAULT 0, -- greatest seq seen when the run was last taken from a dead worker
    fence         integer     NOT NULL DEFAULT 0,
    inbox         integer     NOT NULL DEFAULT 0,
    awaited       boolean     NOT NULL DEFAULT false, -- somebody waits for the end: announce it
    created_at    timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    available_at  timestamptz, -- NULL while RUNNING or ended, or where only an outside event wakes the run
    waits         text,
    worker_key    uuid,
    parent_run_id uuid,
    tags          text[]      NOT NULL DEFAULT '{}',
    attributes    text,
    CONSTRAINT workflow_runs_owner CHECK ((status = 'RUNNING') = (worker_key IS NOT NULL))
) WITH (
    -- Room on the page for the updates of `awaited` and `inbox`, which touch no index.
    fillfactor = 90,
    -- Every run leaves a dead entry at the head of the claim index: clean early.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- Few indexes, for every change of status writes to each that holds the row.

-- Runs without an id of the caller's are known by run_id alone and are not in here.
CREATE UNIQUE INDEX workflow_runs_id ON {schema}.workflow_runs (namespace, id) WHERE id IS NOT NULL;

-- The claim: one lane is (namespace, queue, workflow, version, priority), in it the longest due comes first.
-- Runs that only an outside event wakes are in it too, at the end of their lane (NULLS LAST), so that the open runs
-- can be counted without reading the finished ones.
CREATE INDEX workflow_runs_claim
    ON {schema}.workflow_runs (namespace, queue, workflow, version, priority DESC, available_at)
    WHERE status IN ('PENDING', 'SLEEPING');

-- On worker_key, not on status = 'RUNNING': then no statement that asks for one RUNNING run by its primary key can
-- fall for this index while the table is young and its statistics say that it is nearly empty.
CREATE INDEX workflow_runs_owner_key ON {schema}.workflow_runs (worker_key) WHERE worker_key IS NOT NULL;

CREATE INDEX workflow_runs_failed ON {schema}.workflow_runs (namespace, run_id) WHERE status IN ('FAILED', 'CANCELLED');

-- No foreign key: it would cost a row lock per checkpoint, and every insert is fenced by the run's row anyway.
CREATE TABLE {schema}.step_runs (
    run_id       uuid    NOT NULL,
    step_id      text    NOT NULL,
    seq          integer, -- NULL while not finished
    kind         text    NOT NULL,
    status       text    NOT NULL,
    output       text,
    error        text,
    attempts     integer NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz,
    wake_at      timestamptz,
    child_run_id uuid,
    PRIMARY KEY (run_id, step_id)
);

CREATE TABLE {schema}.step_attempts (
    run_id  uuid        NOT NULL,
    step_id text        NOT NULL,
    attempt integer     NOT NULL,
    kind    text        NOT NULL,
    message text        NOT NULL,
    error   text,
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, step_id, attempt)
);

CREATE TABLE {schema}.messages (
    run_id     uuid        NOT NULL,
    position   integer     NOT NULL,
    kind       text        NOT NULL,
    name       text        NOT NULL,
    payload    text,
    dedup_key  text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, position)
);

CREATE UNIQUE INDEX messages_dedup_key ON {schema}.messages (run_id, dedup_key) WHERE dedup_key IS NOT NULL;

CREATE TABLE {schema}.workers (
    key           uuid        PRIMARY KEY,
    worker_id     text        NOT NULL,
    namespace     text        NOT NULL,
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    queues        text[]      NOT NULL,
    workflows     text[]      NOT NULL,
    versions      integer[]   NOT NULL, -- of `workflows`, place by place
    slots         integer     NOT NULL,
    state         text        NOT NULL
        CHECK (state IN ('STARTING', 'RUNNING', 'DRAINING', 'STOPPED', 'DEAD')),
    build_id      text,
    load          text,
    hungry        boolean     NOT NULL DEFAULT false, -- the last claim found less than there was room for
    registered_at timestamptz NOT NULL DEFAULT now(),
    beat_at       timestamptz NOT NULL DEFAULT now(),
    lease_until   timestamptz NOT NULL,
    ended_at      timestamptz
) WITH (fillfactor = 50); -- renewed every few seconds: let the new version fit on the page

-- On the state, not on ended_at: statements that ask for one living worker by its primary key say `ended_at IS NULL`,
-- so this index is not offered to them.
CREATE INDEX workers_living ON {schema}.workers (namespace) WHERE state IN ('STARTING', 'RUNNING', 'DRAINING');

-- Asked by everyone who makes a run due: is anybody idle who wants to be told?
CREATE INDEX workers_hungry ON {schema}.workers (key) WHERE hungry;

CREATE TABLE {schema}.workflow_versions (
    namespace       text    NOT NULL,
    workflow        text    NOT NULL,
    default_version integer NOT NULL,
    PRIMARY KEY (namespace, workflow)
);
