-- Foundations: what the database knows of itself, change streams, outcomes of
-- requests, the audit log.

-- One row. The epoch counts promotions and restores: it grows when the
-- database finds itself with another system identifier or timeline.
CREATE TABLE installation (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id                uuid        NOT NULL,
    trust_domain      text        NOT NULL,
    epoch             bigint      NOT NULL CHECK (epoch > 0),
    system_identifier text        NOT NULL, -- pg_control_system(), as text since it is a 64-bit number
    timeline          bigint      NOT NULL, -- pg_control_checkpoint()
    time_floor        timestamptz NOT NULL, -- server time never goes below it
    created_at        timestamptz NOT NULL
);

-- Heads of the change streams. Their rows are locked last in a transaction and
-- in name order, so that revisions are dense and in commit order.
CREATE TABLE stream_head (
    stream   text   PRIMARY KEY,
    revision bigint NOT NULL CHECK (revision >= 0),
    floor    bigint NOT NULL DEFAULT 0 CHECK (floor <= revision) -- changes up to here are gone
);

INSERT INTO stream_head (stream, revision)
VALUES ('grants', 0), ('identity', 0), ('policy', 0), ('registry', 0);

CREATE TABLE change (
    stream      text        NOT NULL REFERENCES stream_head (stream),
    revision    bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,
    body        json        NOT NULL, -- events::ChangeBody; json and not jsonb: it is only passed on
    PRIMARY KEY (stream, revision) -- for reading on from a position
);

-- First outcomes of mutating requests, for retries of the same request id.
CREATE TABLE request_outcome (
    principal  text        NOT NULL, -- apk_…, adm_…
    method     text        NOT NULL,
    request_id text        NOT NULL,
    digest     bytea       NOT NULL CHECK (octet_length(digest) = 32), -- SHA-256 of the request
    outcome    json        NOT NULL, -- never a token or another secret
    created_at timestamptz NOT NULL,
    PRIMARY KEY (principal, method, request_id)
);

-- For the job that drops outcomes older than 24 h.
CREATE INDEX request_outcome_created_at ON request_outcome (created_at);

-- Who did what. Appended in the transaction of the act itself.
CREATE TABLE audit_entry (
    sequence     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- grows with time; gaps where a transaction was rolled back
    transaction  xid8        NOT NULL DEFAULT pg_current_xact_id(), -- readers stop before the oldest transaction in flight, so that none is passed over
    occurred_at  timestamptz NOT NULL,
    caller       text        NOT NULL, -- agent:<id>, admin:adm_…, machine:mch_…, system, anonymous
    key_id       text,                 -- apk_… or adm_…
    machine_id   uuid,
    peer_address text,
    zone         text,
    action       text        NOT NULL,
    subject      text        NOT NULL,
    agent_id     text,                 -- whose affair it is: what grants://audit shows that agent
    outcome      text        NOT NULL CHECK (outcome IN ('ok', 'denied', 'refused', 'failed')),
    reason       text,
    request_id   text,
    trace_id     text,
    count        bigint      NOT NULL DEFAULT 1 CHECK (count > 0) -- equal acts of one second in one entry
);

-- For following the log in commit order.
CREATE INDEX audit_entry_transaction ON audit_entry (transaction, sequence);
-- For grants://audit, newest first.
CREATE INDEX audit_entry_agent ON audit_entry (agent_id, sequence DESC) WHERE agent_id IS NOT NULL;
