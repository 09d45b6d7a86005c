-- The record that received a message; NULL while nobody has. A message with a dedup_key is known for as long as its run.
ALTER TABLE messages ADD COLUMN received_seq INTEGER;

CREATE INDEX messages_unreceived ON messages (run_id, position) WHERE received_seq IS NULL;

-- The position of the message that the record received.
ALTER TABLE step_runs ADD COLUMN message INTEGER;

-- When the run was first asked to end before its time; NULL while nobody has.
ALTER TABLE workflow_runs ADD COLUMN cancel_asked_at INTEGER;

-- Chains: the run that goes on in this one's place, the one whose place this took, the first of all of them, and the id
-- that a run had before it handed it on.
ALTER TABLE workflow_runs ADD COLUMN continued_to TEXT;
ALTER TABLE workflow_runs ADD COLUMN continued_from TEXT;
ALTER TABLE workflow_runs ADD COLUMN first_run_id TEXT;
ALTER TABLE workflow_runs ADD COLUMN former_id TEXT;

CREATE UNIQUE INDEX workflow_runs_chain ON workflow_runs (first_run_id)
    WHERE first_run_id IS NOT NULL AND continued_to IS NULL;

-- Children. What becomes of one that its parent leaves behind; NULL in runs without a parent.
ALTER TABLE workflow_runs ADD COLUMN parent_close TEXT;

-- The run has started children, of which some may be open.
ALTER TABLE workflow_runs ADD COLUMN has_children INTEGER NOT NULL DEFAULT 0;

CREATE INDEX workflow_runs_children ON workflow_runs (parent_run_id, run_id) WHERE parent_run_id IS NOT NULL;

-- Runs that have ended and whose children are to be looked after.
CREATE INDEX workflow_runs_leaving ON workflow_runs (namespace, run_id) WHERE has_children AND finished_at IS NOT NULL;

-- By triggers, so that it holds for every way in which a run can be born or end, in the very transaction. Of a run
-- without a parent only the condition is evaluated. A parent that has failed may be opened again, so it is told too.
CREATE TRIGGER child_ended AFTER UPDATE OF finished_at ON workflow_runs
WHEN NEW.parent_run_id IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL
    AND NEW.continued_to IS NULL
BEGIN
    UPDATE workflow_runs SET
        inbox = inbox + 1,
        available_at = CASE status
            WHEN 'SLEEPING' THEN min(coalesce(available_at, NEW.finished_at), NEW.finished_at) ELSE available_at
        END
    WHERE run_id = NEW.parent_run_id AND status <> 'COMPLETED';
    INSERT INTO messages (run_id, position, kind, name, payload, created_at)
    SELECT p.run_id, p.inbox, 'CHILD', coalesce(NEW.first_run_id, NEW.run_id),
        json_object('status', NEW.status, 'output', NEW.output, 'error', NEW.error), NEW.finished_at
    FROM workflow_runs AS p WHERE p.run_id = NEW.parent_run_id AND p.status <> 'COMPLETED';
END;

CREATE TRIGGER child_started AFTER INSERT ON workflow_runs WHEN NEW.parent_run_id IS NOT NULL
BEGIN
    UPDATE workflow_runs SET has_children = 1 WHERE run_id = NEW.parent_run_id AND NOT has_children;
END;

-- What the run answered to an update, and when; and what it has published.
ALTER TABLE messages ADD COLUMN reply TEXT;
ALTER TABLE messages ADD COLUMN replied_at INTEGER;

CREATE TABLE run_values (
    run_id     TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;

-- When a run is to have ended, and to have been begun; NULL where it has no such timeout.
ALTER TABLE workflow_runs ADD COLUMN deadline INTEGER;
ALTER TABLE workflow_runs ADD COLUMN start_deadline INTEGER;

CREATE INDEX workflow_runs_deadline ON workflow_runs (namespace, deadline)
    WHERE deadline IS NOT NULL AND cancel_asked_at IS NULL AND status IN ('PENDING', 'RUNNING', 'SLEEPING');
CREATE INDEX workflow_runs_start_deadline ON workflow_runs (namespace, start_deadline)
    WHERE start_deadline IS NOT NULL AND started_at IS NULL AND status = 'PENDING';

-- The run's timeout: a run that is retried by hand has all of it again. NULL where it has none.
ALTER TABLE workflow_runs ADD COLUMN timeout_s REAL;

-- Pausing. A paused run is due for nobody: its `available_at` is NULL, and `due_at` says when it would have been due.
ALTER TABLE workflow_runs ADD COLUMN paused_at INTEGER;
ALTER TABLE workflow_runs ADD COLUMN pause_reason TEXT;
ALTER TABLE workflow_runs ADD COLUMN due_at INTEGER;

CREATE INDEX workflow_runs_paused ON workflow_runs (namespace, run_id) WHERE paused_at IS NOT NULL;

-- By triggers, so that it holds for every way in which a run can fall due (its worker parks it, loses it or dies, mail
-- comes), also by workers of the release before. Of a run that is not paused only the condition is evaluated. Who is
-- asked to end has to hear of it, so that ends the pause.
CREATE TRIGGER stay_paused AFTER UPDATE OF available_at ON workflow_runs
WHEN NEW.paused_at IS NOT NULL AND NEW.available_at IS NOT NULL AND NEW.cancel_asked_at IS NULL
BEGIN
    UPDATE workflow_runs SET due_at = min(coalesce(due_at, available_at), available_at), available_at = NULL
    WHERE run_id = NEW.run_id AND available_at IS NOT NULL;
END;

CREATE TRIGGER end_paused AFTER UPDATE OF finished_at, cancel_asked_at ON workflow_runs
WHEN NEW.paused_at IS NOT NULL AND (NEW.finished_at IS NOT NULL OR NEW.cancel_asked_at IS NOT NULL)
BEGIN
    UPDATE workflow_runs SET paused_at = NULL, pause_reason = NULL, due_at = NULL WHERE run_id = NEW.run_id;
END;

-- An execution of the step has begun, of which no outcome is known: one that is to be made at most once.
ALTER TABLE step_runs ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;

-- What the step's function told last of how far it is, and when it last gave a sign of life.
ALTER TABLE step_runs ADD COLUMN heartbeat_details TEXT;
ALTER TABLE step_runs ADD COLUMN heartbeat_at INTEGER;

-- Forks: the run whose history it began with, and the one by whose id the chance in that history was seeded.
ALTER TABLE workflow_runs ADD COLUMN forked_from TEXT;
ALTER TABLE workflow_runs ADD COLUMN seed TEXT;

-- Earlier attempts of the run have completed steps with undos, so it is not ended without its body.
ALTER TABLE workflow_runs ADD COLUMN undoes INTEGER NOT NULL DEFAULT 0;

-- Events, told to all who wait for them. `key` is '' where there is none; `call` is the payload as the only argument of
-- a workflow. The place is never given again, or a wait that is to get what comes after it would miss some.
CREATE TABLE events (
    place          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    event_id       TEXT    NOT NULL UNIQUE,
    namespace      TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    key            TEXT    NOT NULL,
    payload        TEXT    NOT NULL,
    call           TEXT    NOT NULL,
    dedup_key      TEXT,
    at             INTEGER NOT NULL,
    is_distributed INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX events_dedup_key ON events (namespace, dedup_key) WHERE dedup_key IS NOT NULL;
CREATE INDEX events_pending ON events (namespace, place) WHERE NOT is_distributed;
CREATE INDEX events_name ON events (namespace, name, at);
CREATE INDEX events_key ON events (namespace, name, key, at);
CREATE INDEX events_at ON events (namespace, at) WHERE is_distributed;

-- Waits of runs, which began at `since`, for events beyond the place `after`, or those that came at most `lookback`
-- before. One that was given an event keeps it in mind: a later one that looks back is not given the same again.
CREATE TABLE event_waits (
    run_id    TEXT    NOT NULL,
    step_id   TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    after     INTEGER NOT NULL,
    since     INTEGER NOT NULL,
    lookback  INTEGER NOT NULL,
    event_id  TEXT,
    position  INTEGER,
    given_at  INTEGER,
    PRIMARY KEY (run_id, step_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX event_waits_open ON event_waits (namespace, name, key) WHERE event_id IS NULL;
CREATE INDEX event_waits_given ON event_waits (run_id, event_id) WHERE event_id IS NOT NULL;

-- Workflows of which each event of a name starts a run. `seen_at` is when a worker that knows so last said it.
CREATE TABLE event_handlers (
    namespace TEXT    NOT NULL,
    event     TEXT    NOT NULL,
    workflow  TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    queue     TEXT    NOT NULL,
    seen_at   INTEGER NOT NULL,
    PRIMARY KEY (namespace, event, workflow)
) STRICT, WITHOUT ROWID;
