-- Which agents are there: leases of edges, registrations, and the terms that these are found by.

-- Counts registrations of agents and processes of edges, all together: a later one has a higher number.
CREATE SEQUENCE registration_epoch AS bigint;

-- One row for each machine whose edge was heard: its lease. Written at every heartbeat, so without an index on what
-- changes, and with room on its pages for nine versions of each row: an update stays on its page (HOT) also where old
-- versions cannot be pruned yet, as a snapshot of some seconds may still see them, and the table keeps its size.
CREATE TABLE edge (
    machine_id   uuid        PRIMARY KEY,
    incarnation  bigint      NOT NULL, -- of the process that holds the lease, from registration_epoch; 0: none has begun
    sequence     bigint      NOT NULL, -- of its last heartbeat; 0: none yet
    peer_address text,                 -- host:port at which edges of other machines reach it; null: they do not
    seen_at      timestamptz NOT NULL, -- when it was heard last, server time
    liveness     smallint    NOT NULL CONSTRAINT edge_liveness CHECK (liveness BETWEEN 0 AND 2) -- 0 live, 1 suspect, 2 gone
) WITH (fillfactor = 10);

-- The registration of each agent.
CREATE TABLE agent_registration (
    agent_id      text        COLLATE "C" PRIMARY KEY, -- in byte order, as programs order it
    epoch         bigint      NOT NULL, -- from registration_epoch
    machine_id    uuid        NOT NULL, -- that it was registered through, and belongs to
    api_key_id    uuid        NOT NULL, -- that registered it, and that it belongs to
    endpoint      text,                 -- URL of its MCP server; null: none
    capabilities  json        NOT NULL, -- [{"name", "version"?, "attributes"?}]
    labels        jsonb       NOT NULL, -- {"key": "value"}
    trust         integer     NOT NULL CONSTRAINT agent_registration_trust CHECK (trust BETWEEN 0 AND 1000), -- as it counts
    trust_asked   integer     CONSTRAINT agent_registration_trust_asked CHECK (trust_asked BETWEEN 0 AND 1000), -- no more than this; null: as operators say
    zone          text        NOT NULL, -- where it was registered from
    ttl_seconds   integer     NOT NULL, -- without a sign of life, until its edge no longer vouches for it
    own_liveness  smallint    NOT NULL CONSTRAINT agent_registration_own_liveness CHECK (own_liveness BETWEEN 0 AND 2), -- what its edge last said of it
    liveness      smallint    NOT NULL CONSTRAINT agent_registration_liveness CHECK (liveness BETWEEN own_liveness AND 2), -- that, or its edge's own, the worse
    ended         boolean     NOT NULL, -- its key or machine counts no more: only a new registration makes it live
    vouched_at    timestamptz NOT NULL, -- when its edge last vouched for it; while it does, edge.seen_at says so
    registered_at timestamptz NOT NULL, -- first, since it was last gone
    updated_at    timestamptz NOT NULL, -- last
    gone_at       timestamptz,          -- since when it is gone; null: it is not
    distrust      smallint    NOT NULL GENERATED ALWAYS AS (1000 - trust) STORED -- as indexes order it
);

-- For discovery without a term, the best first.
CREATE INDEX agent_registration_rank ON agent_registration (liveness, distrust, agent_id);
-- For discovery on one machine, leases, and how many a machine has.
CREATE INDEX agent_registration_machine ON agent_registration (machine_id, liveness, distrust, agent_id);
-- For how many a key has, and those whose key has ended.
CREATE INDEX agent_registration_key ON agent_registration (api_key_id) WHERE NOT ended;
-- For the job that forgets those long gone.
CREATE INDEX agent_registration_gone ON agent_registration (gone_at) WHERE gone_at IS NOT NULL;

-- What registrations are found by: each term of their capabilities, and their labels as `key=value`.
CREATE TABLE agent_term (
    term       text     COLLATE "C" NOT NULL,
    liveness   smallint NOT NULL, -- of the registration …
    distrust   smallint NOT NULL, -- … and so is this
    agent_id   text     COLLATE "C" NOT NULL,
    machine_id uuid     NOT NULL,
    PRIMARY KEY (agent_id, term)
);

-- For discovery by a term, the best first.
CREATE INDEX agent_term_rank ON agent_term (term, liveness, distrust, agent_id) INCLUDE (machine_id);
-- For the same on one machine.
CREATE INDEX agent_term_machine ON agent_term (machine_id, term, liveness, distrust, agent_id);
