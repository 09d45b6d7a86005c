-- The record that received a message; NULL while nobody has. A message with a dedup_key is known for as long as its run.
ALTER TABLE messages ADD COLUMN received_seq INTEGER;

CREATE INDEX messages_unreceived ON messages (run_id, position) WHERE received_seq IS NULL;

-- The position of the message that the record received.
ALTER TABLE step_runs ADD COLUMN message INTEGER;

-- When the run was first asked to end before its time; NULL while nobody has.
ALTER TABLE workflow_runs ADD COLUMN cancel_asked_at INTEGER;
