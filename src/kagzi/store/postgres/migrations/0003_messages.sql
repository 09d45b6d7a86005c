-- The record that received a message; NULL while nobody has. A message with a dedup_key is known for as long as its run.
ALTER TABLE {schema}.messages ADD COLUMN received_seq integer;

CREATE INDEX messages_unreceived ON {schema}.messages (run_id, position) WHERE received_seq IS NULL;

-- The position of the message that the record received.
ALTER TABLE {schema}.step_runs ADD COLUMN message integer;

-- When the run was first asked to end before its time; NULL while nobody has.
ALTER TABLE {schema}.workflow_runs ADD COLUMN cancel_asked_at timestamptz;

-- Chains: the run that goes on in this one's place, the one whose place this took, the first of all of them, and the id
-- that a run had before it handed it on.
ALTER TABLE {schema}.workflow_runs
    ADD COLUMN continued_to uuid, ADD COLUMN continued_from uuid, ADD COLUMN first_run_id uuid, ADD COLUMN former_id text;

CREATE UNIQUE INDEX workflow_runs_chain ON {schema}.workflow_runs (first_run_id)
    WHERE first_run_id IS NOT NULL AND continued_to IS NULL;

-- By a trigger, whose statements see what was sent until the run's row was locked. Ends of children are for those who
-- started them, and events for the waits that they met. A message that was received is known for a while, so that it is not sent again by who got no answer.
CREATE FUNCTION {schema}.continued() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.messages AS m SET run_id = NEW.continued_to
    WHERE m.run_id = NEW.run_id AND m.received_seq IS NULL AND m.kind NOT IN ('CHILD', 'EVENT');
    INSERT INTO {schema}.messages (run_id, position, kind, name, dedup_key, created_at, received_seq)
    SELECT NEW.continued_to, m.position, m.kind, m.name, m.dedup_key, m.created_at, 0
    FROM {schema}.messages AS m
    WHERE m.run_id = NEW.run_id AND m.received_seq IS NOT NULL AND m.dedup_key IS NOT NULL
        AND m.created_at > now() - interval '1 minute'
    ORDER BY m.position DESC LIMIT 1000;
    RETURN NULL;
END
$$;

CREATE TRIGGER continued AFTER UPDATE OF continued_to ON {schema}.workflow_runs FOR EACH ROW
    WHEN (NEW.continued_to IS NOT NULL AND OLD.continued_to IS NULL)
    EXECUTE FUNCTION {schema}.continued();

-- Children. What becomes of one that its parent leaves behind; NULL in runs without a parent.
ALTER TABLE {schema}.workflow_runs ADD COLUMN parent_close text;

-- The run has started children, of which some may be open.
ALTER TABLE {schema}.workflow_runs ADD COLUMN has_children boolean NOT NULL DEFAULT false;

CREATE INDEX workflow_runs_children ON {schema}.workflow_runs (parent_run_id, run_id) WHERE parent_run_id IS NOT NULL;

-- Runs that have ended and whose children are to be looked after.
CREATE INDEX workflow_runs_leaving ON {schema}.workflow_runs (namespace, run_id)
    WHERE has_children AND finished_at IS NOT NULL;

-- By triggers, so that it holds for every way in which a run can be born or end, in the very transaction. Of a run
-- without a parent only the condition is evaluated. A parent that has failed may be opened again, so it is told too.
CREATE FUNCTION {schema}.child_ended() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place  integer;
    stands text;
BEGIN
    UPDATE {schema}.workflow_runs AS p SET
        inbox = p.inbox + 1,
        available_at = CASE WHEN p.status = 'SLEEPING' THEN least(p.available_at, now()) ELSE p.available_at END
    WHERE p.run_id = NEW.parent_run_id AND p.status <> 'COMPLETED'
    RETURNING p.inbox, p.status INTO place, stands;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO {schema}.messages (run_id, position, kind, name, payload)
    VALUES (
        NEW.parent_run_id, place, 'CHILD', coalesce(NEW.first_run_id, NEW.run_id)::text,
        json_build_object('status', NEW.status, 'output', NEW.output, 'error', NEW.error)::text
    );
    IF stands = 'RUNNING' THEN
        PERFORM pg_notify({channel}, 'mail');
    ELSIF stands = 'SLEEPING' AND EXISTS (
        SELECT FROM {schema}.workers AS k WHERE k.hungry AND k.ended_at IS NULL AND k.lease_until > now()
    ) THEN
        PERFORM pg_notify({channel}, 'due');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER child_ended AFTER UPDATE OF finished_at ON {schema}.workflow_runs FOR EACH ROW
    WHEN (
        NEW.parent_run_id IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL
        AND NEW.continued_to IS NULL
    )
    EXECUTE FUNCTION {schema}.child_ended();

CREATE FUNCTION {schema}.child_started() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.workflow_runs AS p SET has_children = true WHERE p.run_id = NEW.parent_run_id AND NOT p.has_children;
    RETURN NULL;
END
$$;

CREATE TRIGGER child_started AFTER INSERT ON {schema}.workflow_runs FOR EACH ROW
    WHEN (NEW.parent_run_id IS NOT NULL)
    EXECUTE FUNCTION {schema}.child_started();

-- What the run answered to an update, and when; and what it has published.
ALTER TABLE {schema}.messages ADD COLUMN reply text;
ALTER TABLE {schema}.messages ADD COLUMN replied_at timestamptz;

CREATE TABLE {schema}.run_values (
    run_id     uuid        NOT NULL,
    key        text        NOT NULL,
    value      text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, key)
);

-- When a run is to have ended, and to have been begun; NULL where it has no such timeout.
ALTER TABLE {schema}.workflow_runs ADD COLUMN deadline timestamptz, ADD COLUMN start_deadline timestamptz;

CREATE INDEX workflow_runs_deadline ON {schema}.workflow_runs (namespace, deadline)
    WHERE deadline IS NOT NULL AND cancel_asked_at IS NULL AND status IN ('PENDING', 'RUNNING', 'SLEEPING');
CREATE INDEX workflow_runs_start_deadline ON {schema}.workflow_runs (namespace, start_deadline)
    WHERE start_deadline IS NOT NULL AND started_at IS NULL AND status = 'PENDING';

-- The run's timeout: a run that is retried by hand has all of it again. NULL where it has none.
ALTER TABLE {schema}.workflow_runs ADD COLUMN timeout_s double precision;

-- Pausing. A paused run is due for nobody: its `available_at` is NULL, and `due_at` says when it would have been due.
ALTER TABLE {schema}.workflow_runs
    ADD COLUMN paused_at timestamptz, ADD COLUMN pause_reason text, ADD COLUMN due_at timestamptz;

CREATE INDEX workflow_runs_paused ON {schema}.workflow_runs (namespace, run_id) WHERE paused_at IS NOT NULL;

-- By a trigger, so that it holds for every way in which a run can fall due (its worker parks it, loses it or dies, mail
-- comes), also by workers of the release before. Of a run that is not paused only the condition is evaluated. Who is
-- asked to end has to hear of it, so that ends the pause.
CREATE FUNCTION {schema}.stay_paused() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.finished_at IS NOT NULL OR NEW.cancel_asked_at IS NOT NULL THEN
        UPDATE {schema}.workflow_runs AS r SET paused_at = NULL, pause_reason = NULL, due_at = NULL
        WHERE r.run_id = NEW.run_id;
    ELSE
        UPDATE {schema}.workflow_runs AS r SET due_at = least(r.due_at, r.available_at), available_at = NULL
        WHERE r.run_id = NEW.run_id AND r.available_at IS NOT NULL;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER stay_paused
    AFTER UPDATE OF available_at, finished_at, cancel_asked_at ON {schema}.workflow_runs FOR EACH ROW
    WHEN (
        NEW.paused_at IS NOT NULL
        AND (NEW.available_at IS NOT NULL OR NEW.finished_at IS NOT NULL OR NEW.cancel_asked_at IS NOT NULL)
    )
    EXECUTE FUNCTION {schema}.stay_paused();

-- An execution of the step has begun, of which no outcome is known: one that is to be made at most once.
ALTER TABLE {schema}.step_runs ADD COLUMN in_doubt boolean NOT NULL DEFAULT false;

-- What the step's function told last of how far it is, and when it last gave a sign of life.
ALTER TABLE {schema}.step_runs ADD COLUMN heartbeat_details text, ADD COLUMN heartbeat_at timestamptz;

-- Forks: the run whose history it began with, and the one by whose id the chance in that history was seeded.
ALTER TABLE {schema}.workflow_runs ADD COLUMN forked_from uuid, ADD COLUMN seed uuid;

-- Earlier attempts of the run have completed steps with undos, so it is not ended without its body.
ALTER TABLE {schema}.workflow_runs ADD COLUMN undoes boolean NOT NULL DEFAULT false;

-- Events, told to all who wait for them. `key` is '' where there is none; `call` is the payload as the only argument of
-- a workflow. `at` is when it came: for one inside a caller's transaction that is the commit, by the trigger.
CREATE TABLE {schema}.events (
    event_id       uuid        PRIMARY KEY,
    namespace      text        NOT NULL,
    name           text        NOT NULL,
    key            text        NOT NULL,
    payload        text        NOT NULL,
    call           text        NOT NULL,
    dedup_key      text,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    is_within      boolean     NOT NULL DEFAULT false,
    is_distributed boolean     NOT NULL DEFAULT false
);

CREATE UNIQUE INDEX events_dedup_key ON {schema}.events (namespace, dedup_key) WHERE dedup_key IS NOT NULL;
CREATE INDEX events_pending ON {schema}.events (namespace, event_id) WHERE NOT is_distributed;
CREATE INDEX events_name ON {schema}.events (namespace, name, at);
CREATE INDEX events_key ON {schema}.events (namespace, name, key, at);
CREATE INDEX events_at ON {schema}.events (namespace, at) WHERE is_distributed;

CREATE FUNCTION {schema}.event_came() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.events AS e SET at = clock_timestamp() WHERE e.event_id = NEW.event_id;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER event_came AFTER INSERT ON {schema}.events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.is_within)
    EXECUTE FUNCTION {schema}.event_came();

-- Waits of runs for events. One that was given an event keeps it in mind: a later wait of the run that looks back is not
-- given the same again.
CREATE TABLE {schema}.event_waits (
    run_id    uuid        NOT NULL,
    step_id   text        NOT NULL,
    namespace text        NOT NULL,
    name      text        NOT NULL,
    key       text        NOT NULL,
    since     timestamptz NOT NULL,
    lookback  interval    NOT NULL,
    event_id  uuid,
    position  integer,
    given_at  timestamptz,
    PRIMARY KEY (run_id, step_id)
);

CREATE INDEX event_waits_open ON {schema}.event_waits (namespace, name, key) WHERE event_id IS NULL;
CREATE INDEX event_waits_given ON {schema}.event_waits (run_id, event_id) WHERE event_id IS NOT NULL;

-- Workflows of which each event of a name starts a run. `seen_at` is when a worker that knows so last said it.
CREATE TABLE {schema}.event_handlers (
    namespace text        NOT NULL,
    event     text        NOT NULL,
    workflow  text        NOT NULL,
    version   integer     NOT NULL,
    queue     text        NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, event, workflow)
);
