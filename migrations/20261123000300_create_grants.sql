-- Decisions, and what ends them.

-- One row for each request that was judged, granted or denied.
CREATE TABLE permission_grant (
    id              uuid        PRIMARY KEY, -- UUIDv7: sorts by age, which paging relies on
    decision        text        NOT NULL CHECK (decision IN ('granted', 'denied')),
    agent_id        text        NOT NULL,
    resource_type   text        NOT NULL,
    scope           text,
    justification   text        NOT NULL,
    machine_id      uuid        NOT NULL REFERENCES machine (id),
    api_key_id      uuid        NOT NULL REFERENCES api_key (id),
    zone            text        NOT NULL,
    score           integer     NOT NULL,
    score_justification integer NOT NULL,
    score_trust     integer     NOT NULL,
    score_risk      integer     NOT NULL,
    reasons         text[]      NOT NULL,
    restrictions    text[]      NOT NULL,
    policy_version  bigint      NOT NULL REFERENCES policy_set (version),
    policy_ids      text[]      NOT NULL,
    facts           json        NOT NULL, -- every input of the decision
    epoch           bigint      NOT NULL, -- position in the `grants` stream at first issue; 0/0 for a denial
    revision        bigint      NOT NULL,
    max_staleness_ms integer    NOT NULL,
    issued_at       timestamptz NOT NULL,
    renewed_at      timestamptz,          -- iat of the newest token, where it was renewed
    expires_at      timestamptz,          -- of the newest token; null for a denial
    ended           text        CHECK (ended IN ('expired', 'revoked')), -- null: active or denied
    revoked_at      timestamptz,
    revoked_revision bigint,              -- position of the single revocation
    CHECK ((decision = 'granted') = (expires_at IS NOT NULL)),
    CHECK ((ended IS NOT DISTINCT FROM 'revoked') = (revoked_at IS NOT NULL))
);

-- For grants://active and `grant list --agent`, newest first.
CREATE INDEX permission_grant_agent ON permission_grant (agent_id, id DESC);
-- For the expiry job, and for counting active grants.
CREATE INDEX permission_grant_expiry ON permission_grant (expires_at) WHERE decision = 'granted' AND ended IS NULL;

-- Predicate revocations: they end every matching grant of a lower position,
-- also those whose transaction was in flight.
CREATE TABLE grant_revocation (
    epoch      bigint      NOT NULL,
    revision   bigint      NOT NULL, -- position in the `grants` stream
    kind       text        NOT NULL CHECK (kind IN ('agent', 'machine', 'resource_type', 'policy', 'everything')),
    subject    text        NOT NULL, -- empty for everything
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL, -- when the last grant that it can match ends
    comment    text        NOT NULL,
    PRIMARY KEY (epoch, revision)
);
