-- One write, as the control plane makes it, on its own: the board's head, the key, the change, the outcome that is
-- kept for repeats, and the audit entry.
-- pgbench takes a colon before a letter for a variable, also within quotes.
\set number random(0, :keys - 1)
\set request random(1, 1000000000000)
BEGIN;
UPDATE board_head SET revision = revision + 1 WHERE board = 'baseline' RETURNING revision \gset
INSERT INTO board_entry (board, key, value, revision, created_revision, is_lock, writer, machine_id, written_at) VALUES ('baseline', 'task/' || :number, {value}, :revision, :revision, false, 'agent-data_analyst', '0190c0de-0000-7000-8000-000000000000', now()) ON CONFLICT (board, key) DO UPDATE SET value = excluded.value, revision = excluded.revision, writer = excluded.writer, machine_id = excluded.machine_id, written_at = excluded.written_at;
INSERT INTO board_change (board, revision, number, kind, key, value, created_revision, previous_revision, is_lock, writer, machine_id, occurred_at) VALUES ('baseline', :revision, 0, 0, 'task/' || :number, {value}, 1, 1, false, 'agent-data_analyst', '0190c0de-0000-7000-8000-000000000000', now());
INSERT INTO request_outcome (principal, method, request_id, digest, outcome, created_at) VALUES ('baseline', 'blackboard.write', (:request)::text, sha256((:request)::text::bytea), '{"outcome":{"Ok":{"put":{"previous_revision": 1,"expires_at": null}}},"position":{"epoch": 1,"revision": 1}}', now()) ON CONFLICT DO NOTHING;
INSERT INTO audit_entry (occurred_at, caller, key_id, machine_id, zone, action, subject, agent_id, outcome, request_id) VALUES (now(), 'agent-data_analyst', 'apk_0', '0190c0de-0000-7000-8000-000000000000', 'local_machine', 'blackboard.write', 'baseline/task/' || :number, 'data_analyst', 'ok', (:request)::text);
COMMIT;
