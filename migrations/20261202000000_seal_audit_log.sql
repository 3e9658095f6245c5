-- The audit log proves itself: entries get a place in a Merkle tree (RFC 6962)
-- whose head is signed.
--
-- `audit_entry` stays where acts append to; the sealer moves what is committed
-- there to `sealed_audit_entry`, in one transaction with the tree's new head.

SET LOCAL lock_timeout = '3s';

-- The key that signs heads is another of our own. The control plane of before does not know that purpose: it goes on
-- with the keys that it has read.
ALTER TABLE own_key DROP CONSTRAINT own_key_purpose_check;
ALTER TABLE own_key ADD CONSTRAINT own_key_purpose_check
    CHECK (purpose IN ('ca', 'grant', 'session', 'audit')) NOT VALID;

-- One row a log; the newest is written to. A restored database begins another.
CREATE TABLE audit_log (
    log         bigint      PRIMARY KEY CHECK (log > 0), -- 1, 2 …
    origin      text        NOT NULL UNIQUE,             -- first line of its checkpoints: <trust domain>/audit/<id>
    epoch       bigint      NOT NULL CHECK (epoch > 0),  -- of the installation as it began
    size        bigint      NOT NULL DEFAULT 0 CHECK (size >= 0), -- sealed entries
    root        bytea       NOT NULL CHECK (octet_length(root) = 32), -- RFC 6962 root at that size
    bodies_from bigint      NOT NULL DEFAULT 0 CHECK (bodies_from BETWEEN 0 AND size), -- below, retention has dropped bodies
    begun_at    timestamptz NOT NULL,
    ended_at    timestamptz                              -- by a restore; null for the one that is written to
);

-- Only one log is written to.
CREATE UNIQUE INDEX audit_log_open ON audit_log ((ended_at IS NULL)) WHERE ended_at IS NULL;

-- What has a place in a log. The columns are those of audit_entry; all of them are in the leaf.
CREATE TABLE sealed_audit_entry (
    log          bigint      NOT NULL,
    index        bigint      NOT NULL CHECK (index >= 0), -- from 0, without a gap
    sequence     bigint      NOT NULL, -- as in audit_entry
    occurred_at  timestamptz NOT NULL,
    caller       text        NOT NULL,
    key_id       text,
    machine_id   uuid,
    peer_address text,
    zone         text,
    action       text        NOT NULL,
    subject      text        NOT NULL,
    agent_id     text,
    outcome      text        NOT NULL,
    reason       text,
    request_id   text,
    trace_id     text,
    count        bigint      NOT NULL,
    PRIMARY KEY (log, index) -- for reading in order
);

-- For grants://audit, and for searching by agent, newest first.
CREATE INDEX sealed_audit_entry_agent ON sealed_audit_entry (agent_id, sequence DESC) WHERE agent_id IS NOT NULL;
-- For searching by machine, newest first.
CREATE INDEX sealed_audit_entry_machine ON sealed_audit_entry (machine_id, sequence DESC) WHERE machine_id IS NOT NULL;
-- For searching by action, newest first.
CREATE INDEX sealed_audit_entry_action ON sealed_audit_entry (action text_pattern_ops, sequence DESC);
-- For searching newest first by anything else, and for paging.
CREATE INDEX sealed_audit_entry_sequence ON sealed_audit_entry (sequence);
-- For searching by time, and for retention; small, since time goes with the order.
CREATE INDEX sealed_audit_entry_occurred_at ON sealed_audit_entry USING brin (occurred_at);

-- The tree, in tiles of 256 hashes (C2SP tlog-tiles): level 0 has the leaf hashes, each hash of a higher level is the
-- root of 256 of the level below. Retention never touches them.
CREATE TABLE audit_tile (
    log    bigint   NOT NULL,
    level  smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
    index  bigint   NOT NULL CHECK (index >= 0),
    hashes bytea    NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0),
    PRIMARY KEY (log, level, index)
);
-- hashes cannot be compressed
ALTER TABLE audit_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Signed heads, each signed after its size and root had reached the write quorum.
CREATE TABLE audit_checkpoint (
    log       bigint      NOT NULL,
    size      bigint      NOT NULL CHECK (size > 0),
    root      bytea       NOT NULL CHECK (octet_length(root) = 32),
    note      text        NOT NULL, -- C2SP signed note
    signed_at timestamptz NOT NULL,
    PRIMARY KEY (log, size) -- one root for a size
);

-- For thinning old ones; small, since time goes with the order.
CREATE INDEX audit_checkpoint_signed_at ON audit_checkpoint USING brin (signed_at);

-- What machines say that they have kept.
CREATE TABLE audit_witness (
    machine_id uuid        PRIMARY KEY,
    origin     text        NOT NULL,
    size       bigint      NOT NULL CHECK (size > 0),
    root       bytea       NOT NULL CHECK (octet_length(root) = 32),
    note       text        NOT NULL, -- the signed note itself
    seen_at    timestamptz NOT NULL,
    -- it is not part of the log, and that is an entry in it
    contradicts boolean    NOT NULL
);

-- How far the journals of edges are written.
CREATE TABLE audit_journal (
    machine_id uuid        NOT NULL,
    journal_id uuid        NOT NULL,
    sequence   bigint      NOT NULL CHECK (sequence > 0), -- the highest batch
    written_at timestamptz NOT NULL,
    PRIMARY KEY (machine_id, journal_id)
);

-- How long bodies are kept. One row.
CREATE TABLE audit_retention (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    days     integer NOT NULL DEFAULT 0 CHECK (days BETWEEN 0 AND 36500) -- 0: for ever
);
INSERT INTO audit_retention DEFAULT VALUES;

-- The sealer empties it all the time.
ALTER TABLE audit_entry SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- All entries, sealed or not: for who looks into the database by hand, and for tests.
CREATE VIEW audit_trail AS
SELECT log, index, sequence, occurred_at, caller, key_id, machine_id, peer_address, zone, action, subject, agent_id,
       outcome, reason, request_id, trace_id, count
FROM sealed_audit_entry
UNION ALL
SELECT NULL, NULL, sequence, occurred_at, caller, key_id, machine_id, peer_address, zone, action, subject, agent_id,
       outcome, reason, request_id, trace_id, count
FROM audit_entry;
