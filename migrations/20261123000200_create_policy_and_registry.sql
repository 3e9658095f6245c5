-- What may be asked for, who asks, and the rules.

CREATE TABLE resource_type (
    name                text        PRIMARY KEY,
    base_risk           integer     NOT NULL CHECK (base_risk BETWEEN 0 AND 1000),
    restrictions        text[]      NOT NULL,
    default_ttl_seconds integer     NOT NULL CHECK (default_ttl_seconds > 0),
    max_ttl_seconds     integer     NOT NULL CHECK (max_ttl_seconds BETWEEN default_ttl_seconds AND 86400),
    description         text        NOT NULL,
    updated_at          timestamptz NOT NULL
);

INSERT INTO resource_type (name, base_risk, restrictions, default_ttl_seconds, max_ttl_seconds, description, updated_at)
VALUES
    ('SAP_API', 500, '{read_only,max_records:100}', 300, 3600, 'SAP system API', '2026-01-01T00:00:00Z'),
    ('FINANCIAL_API', 700, '{read_only,no_pii_fields,audit_required}', 300, 3600, 'Financial data API', '2026-01-01T00:00:00Z'),
    ('EXTERNAL_SERVICE', 400, '{rate_limit:10_per_minute}', 300, 3600, 'Services outside the organisation', '2026-01-01T00:00:00Z'),
    ('DATA_EXPORT', 600, '{anonymize_pii,local_only}', 300, 3600, 'Export of data', '2026-01-01T00:00:00Z');

-- Every policy set that was ever in force; the highest version is in force.
CREATE TABLE policy_set (
    version    bigint      PRIMARY KEY CHECK (version > 0),
    source     text        NOT NULL, -- Cedar
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL -- adm_… or system
);

-- One row, share-locked by decisions so that none is made by a set that is just being replaced.
CREATE TABLE active_policy (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint  NOT NULL REFERENCES policy_set (version)
);

CREATE TABLE agent (
    id          text        PRIMARY KEY,
    trust       integer     NOT NULL CHECK (trust BETWEEN 0 AND 1000),
    description text        NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
