-- Boards: keys and values that agents share, and what has become of them.

CREATE TABLE board (
    name                text        COLLATE "C" PRIMARY KEY,
    level               smallint    NOT NULL CONSTRAINT board_level CHECK (level BETWEEN 0 AND 2), -- 0 eventual, 1 session, 2 strong
    readers             text[]      NOT NULL, -- agent ids, or `*` for every agent
    writers             text[]      NOT NULL, -- likewise; they may read too
    min_trust           integer     NOT NULL CONSTRAINT board_min_trust CHECK (min_trust BETWEEN 0 AND 1000),
    requires_grant      boolean     NOT NULL, -- a live grant on `board:<name>`
    max_keys            bigint      NOT NULL,
    max_bytes           bigint      NOT NULL, -- of keys and values
    default_ttl_seconds bigint      NOT NULL, -- 0: for ever
    retention_seconds   bigint      NOT NULL, -- how long changes are kept
    description         text        NOT NULL,
    created_at          timestamptz NOT NULL
);

-- The head of each board's stream of changes, and how much is on it: one row
-- that every transaction which writes to the board locks first, and in name
-- order. Without an index on what changes, and with room for old versions of the
-- row on its page (HOT).
CREATE TABLE board_head (
    board    text   COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL CONSTRAINT board_head_revision CHECK (revision >= 0),
    floor    bigint NOT NULL CONSTRAINT board_head_floor CHECK (floor <= revision), -- changes up to here are gone
    keys     bigint NOT NULL CONSTRAINT board_head_keys CHECK (keys >= 0),
    bytes    bigint NOT NULL CONSTRAINT board_head_bytes CHECK (bytes >= 0)
) WITH (fillfactor = 10);

-- Where each board was when an epoch began: positions of earlier epochs go on
-- up to there, since what a server was promoted or restored from is a prefix.
CREATE TABLE board_epoch (
    board    text   COLLATE "C" NOT NULL,
    epoch    bigint NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (board, epoch)
);

-- What is in each key. Values are text, and never jsonb: they come back as
-- they were written, to the digit and in the same order.
CREATE TABLE board_entry (
    board            text        COLLATE "C" NOT NULL,
    key              text        COLLATE "C" NOT NULL, -- in byte order
    value            text        NOT NULL, -- JSON
    revision         bigint      NOT NULL, -- of the board, that wrote it last
    created_revision bigint      NOT NULL, -- that made the key; of a lock: its fencing revision
    is_lock          boolean     NOT NULL,
    writer           text        NOT NULL, -- agent:<id> or admin:adm_…
    machine_id       uuid,                 -- through which
    grant_id         uuid,                 -- under which
    written_at       timestamptz NOT NULL, -- by the database's clock
    expires_at       timestamptz,          -- likewise
    PRIMARY KEY (board, key)               -- for reading a key, and keys by prefix
) WITH (fillfactor = 70);

-- For the sweep of what has come to its end.
CREATE INDEX board_entry_expires_at ON board_entry (expires_at) WHERE expires_at IS NOT NULL;

-- What has become of keys, for those who watch.
CREATE TABLE board_change (
    board             text        COLLATE "C" NOT NULL,
    revision          bigint      NOT NULL,
    number            smallint    NOT NULL, -- within the revision, from 0
    kind              smallint    NOT NULL CONSTRAINT board_change_kind CHECK (kind BETWEEN 0 AND 2), -- 0 put, 1 delete, 2 expire
    key               text        COLLATE "C" NOT NULL,
    value             text,                 -- of a put
    created_revision  bigint      NOT NULL,
    previous_revision bigint      NOT NULL, -- of the key; 0: it was not there
    is_lock           boolean     NOT NULL,
    writer            text        NOT NULL,
    machine_id        uuid,
    grant_id          uuid,
    occurred_at       timestamptz NOT NULL,
    expires_at        timestamptz,
    PRIMARY KEY (board, revision, number)  -- for reading on from a position
);

INSERT INTO board (name, level, readers, writers, min_trust, requires_grant, max_keys, max_bytes,
                   default_ttl_seconds, retention_seconds, description, created_at)
SELECT name, level, '{*}', '{*}', 0, false, 1000000, 1073741824, 0, 3600, description, now()
FROM (VALUES ('eventual', 0, 'merged; also offline'),
             ('session', 1, 'nobody reads older than what he has seen'),
             ('strong', 2, 'linearizable')) AS built_in (name, level, description);

INSERT INTO board_head (board, revision, floor, keys, bytes)
SELECT name, 0, 0, 0, 0 FROM board;
