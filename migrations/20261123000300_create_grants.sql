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
    detail          text        NOT NULL, -- one sentence for people
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
    revoked_epoch   bigint,               -- position of the single revocation
    revoked_revision bigint,
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

-- Whether a grant is one of those that a predicate means.
CREATE FUNCTION grant_matches(g permission_grant, kind text, subject text) RETURNS boolean
    LANGUAGE sql STABLE
RETURN CASE kind
    WHEN 'agent' THEN g.agent_id = subject
    WHEN 'machine' THEN g.machine_id = subject::uuid
    WHEN 'resource_type' THEN g.resource_type = subject
    WHEN 'policy' THEN subject = ANY (g.policy_ids)
    ELSE kind = 'everything'
END;

-- When a predicate ended a grant; null when none did. Both sides carry their
-- position: a predicate covers what was issued before it and nothing else.
CREATE FUNCTION revoked_by_predicate(g permission_grant) RETURNS timestamptz
    LANGUAGE sql STABLE
RETURN (
    SELECT min(r.created_at) FROM grant_revocation AS r
    WHERE (r.epoch, r.revision) > (g.epoch, g.revision) AND g.decision = 'granted'
      AND grant_matches(g, r.kind, r.subject)
);
