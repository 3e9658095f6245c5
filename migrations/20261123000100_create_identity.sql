-- Identity: our own keys, machines, API keys, admins.

-- Keys of the control plane. Secrets are sealed (AES-256-GCM) under the master key.
CREATE TABLE own_key (
    id           uuid        PRIMARY KEY,
    purpose      text        NOT NULL CHECK (purpose IN ('ca', 'grant', 'session')),
    state        text        NOT NULL CHECK (state IN ('prepared', 'active', 'retired')),
    public       bytea       NOT NULL, -- ca: certificate (DER); others: Ed25519 public key, 32 bytes
    sealed       bytea       NOT NULL, -- nonce and sealed PKCS #8
    created_at   timestamptz NOT NULL,
    activated_at timestamptz,
    retired_at   timestamptz
);

-- One active key for each purpose.
CREATE UNIQUE INDEX own_key_active ON own_key (purpose) WHERE state = 'active';

CREATE TABLE machine (
    id                     uuid        PRIMARY KEY,
    name                   text        NOT NULL CONSTRAINT machine_name_key UNIQUE,
    state                  text        NOT NULL CHECK (state IN ('active', 'banned')),
    max_zone               text        NOT NULL CHECK (max_zone IN ('external', 'trusted_network', 'local_machine')),
    public_key             bytea       NOT NULL, -- SubjectPublicKeyInfo of the newest certificate
    created_at             timestamptz NOT NULL,
    certificate_expires_at timestamptz NOT NULL
);

CREATE TABLE join_token (
    id           uuid        PRIMARY KEY,
    machine_name text        NOT NULL,
    secret_hash  bytea       NOT NULL CHECK (octet_length(secret_hash) = 32), -- SHA-256
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    machine_id   uuid        REFERENCES machine (id), -- who used it
    public_key   bytea,                               -- bound at first use, so that a lost reply can be asked for again
    CHECK ((used_at IS NULL) = (machine_id IS NULL) AND (used_at IS NULL) = (public_key IS NULL))
);

CREATE TABLE api_key (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL,
    public_key bytea       NOT NULL CONSTRAINT api_key_public_key_key UNIQUE CHECK (octet_length(public_key) = 32),
    agent_ids  text[]      NOT NULL CHECK (cardinality(agent_ids) BETWEEN 1 AND 100),
    validator  boolean     NOT NULL, -- may check tokens of other agents
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- Login nonces: single use. Unlogged: after a crash a client asks for another.
CREATE UNLOGGED TABLE login_nonce (
    nonce      bytea       PRIMARY KEY CHECK (octet_length(nonce) = 32),
    api_key_id uuid        NOT NULL,
    machine_id uuid        NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);

-- For the job that drops old nonces.
CREATE INDEX login_nonce_expires_at ON login_nonce (expires_at);

CREATE TABLE admin_token (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL,
    secret_hash bytea       NOT NULL CHECK (octet_length(secret_hash) = 32), -- SHA-256
    role        text        NOT NULL CHECK (role IN ('viewer', 'approver', 'operator', 'admin')),
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz,
    revoked_at  timestamptz
);
