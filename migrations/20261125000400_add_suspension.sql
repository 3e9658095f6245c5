-- Suspensions: what matches one is neither granted nor renewed until it is lifted.

CREATE TABLE suspension (
    kind       text        NOT NULL CONSTRAINT suspension_kind CHECK (kind IN ('agent', 'machine', 'resource_type', 'everything')),
    subject    text        NOT NULL, -- agent id, mch_…, resource type; empty for everything
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL, -- adm_… or system
    comment    text        NOT NULL,
    PRIMARY KEY (kind, subject)
);

-- One row: the targets of all suspensions together. Decisions share-lock it in the statement that locks
-- active_policy, and judge by the content of the locked row, so that none is made by what was suspended before.
CREATE TABLE active_suspensions (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    targets  json    NOT NULL -- [{"by": kind, "subject": …}]: events::SuspensionTarget
);

INSERT INTO active_suspensions (targets) VALUES ('[]');
