-- The record that received a message; NULL while nobody has. A message with a dedup_key is known for as long as its run.
ALTER TABLE messages ADD COLUMN received_seq INTEGER;

CREATE INDEX messages_unreceived ON messages (run_id, position) WHERE received_seq IS NULL;

-- The position of the message that the record received.
ALTER TABLE step_runs ADD COLUMN message INTEGER;

-- When the run was first asked to end before its time; NULL while nobody has.
ALTER TABLE workflow_runs ADD COLUMN cancel_asked_at INTEGER;

-- Children. What becomes of one that its parent leaves behind; NULL in runs without a parent.
ALTER TABLE workflow_runs ADD COLUMN parent_close TEXT;

-- The run has started children, of which some may be open.
ALTER TABLE workflow_runs ADD COLUMN has_children INTEGER NOT NULL DEFAULT 0;

CREATE INDEX workflow_runs_children ON workflow_runs (parent_run_id) WHERE parent_run_id IS NOT NULL;

-- Runs that have ended and whose children are to be looked after.
CREATE INDEX workflow_runs_leaving ON workflow_runs (namespace, run_id) WHERE has_children AND finished_at IS NOT NULL;

-- By triggers, so that it holds for every way in which a run can be born or end, in the very transaction. Of a run
-- without a parent only the condition is evaluated. A parent that has failed may be opened again, so it is told too.
CREATE TRIGGER child_ended AFTER UPDATE OF finished_at ON workflow_runs
WHEN NEW.parent_run_id IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL
BEGIN
    UPDATE workflow_runs SET
        inbox = inbox + 1,
        available_at = CASE status
            WHEN 'SLEEPING' THEN min(coalesce(available_at, NEW.finished_at), NEW.finished_at) ELSE available_at
        END
    WHERE run_id = NEW.parent_run_id AND status <> 'COMPLETED';
    INSERT INTO messages (run_id, position, kind, name, payload, created_at)
    SELECT p.run_id, p.inbox, 'CHILD', NEW.run_id,
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
