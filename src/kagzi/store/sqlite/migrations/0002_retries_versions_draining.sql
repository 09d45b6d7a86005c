-- Every column has a default, so workers of the previous release go on writing beside this one (P28).

-- Operations recorded up to this `seq` belong to an earlier attempt of the run: a new attempt has them handed out
-- when it asks for them, in an order of its own.
ALTER TABLE workflow_runs ADD COLUMN reopened_seq INTEGER NOT NULL DEFAULT 0;

-- Where the run last parked, as JSON: the `seq` of its last record and what it waited for. Code that is deployed later
-- and does something else there doesn't fit. NULL: it never parked, or under a release without this column.
ALTER TABLE workflow_runs ADD COLUMN parked TEXT;

-- When a later attempt was first taken by a worker: its workflow time begins then. NULL in the first attempt.
ALTER TABLE workflow_runs ADD COLUMN attempt_started_at INTEGER;

-- How often the step may be executed by its retry policy: "attempt 2 of 5". NULL: without a limit, or not known.
ALTER TABLE step_runs ADD COLUMN max_attempts INTEGER;

-- Executions in earlier attempts of the run, which its retry policy does not count any more.
ALTER TABLE step_runs ADD COLUMN earlier_attempts INTEGER NOT NULL DEFAULT 0;

-- In which attempt of the run an operation was left open: what a later one finds open, it begins anew.
ALTER TABLE step_runs ADD COLUMN run_attempt INTEGER NOT NULL DEFAULT 1;

-- Somebody asked the worker to drain; it learns so from its next heartbeat.
ALTER TABLE workers ADD COLUMN drain_asked INTEGER NOT NULL DEFAULT 0;

CREATE TABLE deprecated_versions (
    namespace     TEXT    NOT NULL,
    workflow      TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    deprecated_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow, version)
) STRICT, WITHOUT ROWID;
