-- A restored database begins anew where it must not be taken for the one that was lost.

SET LOCAL lock_timeout = '3s';

ALTER TABLE installation
    ADD COLUMN restored_at    timestamptz,               -- of the newest restore; null: there was none
    ADD COLUMN restored_epoch bigint NOT NULL DEFAULT 0; -- that began with it: sessions, grants and positions of lower ones have ended

-- Where each stream was when an epoch began: what published positions of earlier epochs must not be beyond, unless a
-- restore has begun it.
CREATE TABLE stream_epoch (
    stream   text   NOT NULL,
    epoch    bigint NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (stream, epoch) -- for the lowest since an epoch
);
