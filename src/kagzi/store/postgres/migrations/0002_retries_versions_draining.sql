-- Every column has a default, so workers of the previous release go on writing beside this one (P28). Adding such a
-- column rewrites no table.

-- Operations recorded up to this `seq` belong to an earlier attempt of the run: a new attempt has them handed out
-- when it asks for them, in an order of its own.
ALTER TABLE {schema}.workflow_runs ADD COLUMN reopened_seq integer NOT NULL DEFAULT 0;

-- Where the run last parked, as JSON: the `seq` of its last record and what it waited for. Code that is deployed later
-- and does something else there doesn't fit. NULL: it never parked, or under a release without this column.
ALTER TABLE {schema}.workflow_runs ADD COLUMN parked text;

-- When a later attempt was first taken by a worker: its workflow time begins then. NULL in the first attempt.
ALTER TABLE {schema}.workflow_runs ADD COLUMN attempt_started_at timestamptz;

-- How often the step may be executed by its retry policy: "attempt 2 of 5". NULL: without a limit, or not known.
ALTER TABLE {schema}.step_runs ADD COLUMN max_attempts integer;

-- Executions in earlier attempts of the run, which its retry policy does not count any more.
ALTER TABLE {schema}.step_runs ADD COLUMN earlier_attempts integer NOT NULL DEFAULT 0;

-- In which attempt of the run an operation was left open: what a later one finds open, it begins anew.
ALTER TABLE {schema}.step_runs ADD COLUMN run_attempt integer NOT NULL DEFAULT 1;

-- Somebody asked the worker to drain; it learns so from its next heartbeat.
ALTER TABLE {schema}.workers ADD COLUMN drain_asked boolean NOT NULL DEFAULT false;

CREATE TABLE {schema}.deprecated_versions (
    namespace     text        NOT NULL,
    workflow      text        NOT NULL,
    version       integer     NOT NULL,
    deprecated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, workflow, version)
);
