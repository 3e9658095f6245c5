-- Eventual boards: what replicas on edges have written, and how far they have come.

-- The versions of each key of an eventual board, none of which has seen another;
-- `board_entry` has the one that readers are told. The control plane writes as
-- machine 0 with its epoch and the board's revision.
CREATE TABLE board_version (
    board       text        COLLATE "C" NOT NULL,
    key         text        COLLATE "C" NOT NULL,
    machine_id  uuid        NOT NULL, -- who wrote it,
    incarnation bigint      NOT NULL, -- in which of its lives,
    counter     bigint      NOT NULL, -- as which of its writes
    clock       text        NOT NULL, -- JSON: of each actor, how many of its writes were seen
    time        bigint      NOT NULL CONSTRAINT board_version_time CHECK (time >= 0), -- hybrid: milliseconds << 16 + count
    value       text,                 -- JSON; null: a tombstone
    writer      text        NOT NULL, -- agent:<id> or admin:adm_…
    expires_at  timestamptz,
    revision    bigint      NOT NULL, -- of the board, that took it
    PRIMARY KEY (board, key, machine_id, incarnation, counter)
) WITH (fillfactor = 70);

-- For replicas that read on from a revision.
CREATE UNIQUE INDEX board_version_revision ON board_version (board, revision);

-- For forgetting tombstones that all replicas have heard of.
CREATE INDEX board_version_tombstone ON board_version (board, revision) WHERE value IS NULL;

-- How many writes of each replica a board has had: none is taken twice.
CREATE TABLE board_actor (
    board       text   COLLATE "C" NOT NULL,
    machine_id  uuid   NOT NULL,
    incarnation bigint NOT NULL,
    received    bigint NOT NULL,
    PRIMARY KEY (board, machine_id, incarnation)
);

-- For what is known of a replica's incarnation on all boards.
CREATE INDEX board_actor_machine ON board_actor (machine_id, incarnation);

-- The replica of each machine.
CREATE TABLE replica (
    machine_id   uuid        PRIMARY KEY,
    incarnation  bigint      NOT NULL, -- the last that it was given
    leased_until timestamptz NOT NULL  -- what it has not heard of is kept until then
);

-- Up to where each replica has heard of each board.
CREATE TABLE replica_board (
    machine_id uuid   NOT NULL,
    board      text   COLLATE "C" NOT NULL,
    revision   bigint NOT NULL,
    PRIMARY KEY (machine_id, board)
);

-- Tombstones up to here are forgotten: a replica that has heard of less has to
-- read the board anew.
ALTER TABLE board_head ADD COLUMN collected bigint NOT NULL DEFAULT 0;

-- What eventual boards have already.
INSERT INTO board_version (board, key, machine_id, incarnation, counter, clock, time, value, writer, expires_at, revision)
SELECT board, key, '00000000-0000-0000-0000-000000000000', epoch, revision,
       format('{"mch_0000000000000000000000.%s":%s}', epoch, revision),
       floor(extract(epoch FROM written_at) * 1000)::bigint << 16, value, writer, expires_at, revision
FROM board_entry JOIN board ON board.name = board_entry.board CROSS JOIN installation
WHERE level = 0;
