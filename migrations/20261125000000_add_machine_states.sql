-- Machines that are banned or evicted, and what a machine is for. A few rows that are seldom written: the locks are short.

SET LOCAL lock_timeout = '3s';

ALTER TABLE machine
    DROP CONSTRAINT machine_state_check,
    ADD CONSTRAINT machine_state_check CHECK (state IN ('active', 'banned', 'evicted'));

-- The name of an evicted machine is free for another.
ALTER TABLE machine DROP CONSTRAINT machine_name_key;
CREATE UNIQUE INDEX machine_name_key ON machine (name) WHERE state <> 'evicted';
-- For lists, and for who had a name last.
CREATE INDEX machine_name ON machine (name, id);

ALTER TABLE machine
    ADD COLUMN agent_ids          text[] CONSTRAINT machine_agent_ids CHECK (cardinality(agent_ids) BETWEEN 1 AND 100), -- agents that it may serve; null: any
    ADD COLUMN server_names       text[] NOT NULL DEFAULT '{}', -- DNS names and addresses that its certificates carry beside its id
    ADD COLUMN session_generation bigint NOT NULL DEFAULT 0;    -- sessions of a lower one have ended; grows with each change that ends them

-- For what every control plane keeps in memory: machines whose calls are not simply good.
CREATE INDEX machine_standing ON machine (id) WHERE state <> 'active' OR session_generation > 0;

-- What the machine is to be, given with the token.
ALTER TABLE join_token
    ADD COLUMN max_zone     text   NOT NULL DEFAULT 'local_machine' CHECK (max_zone IN ('external', 'trusted_network', 'local_machine')),
    ADD COLUMN agent_ids    text[] CONSTRAINT join_token_agent_ids CHECK (cardinality(agent_ids) BETWEEN 1 AND 100), -- null: any
    ADD COLUMN server_names text[] NOT NULL DEFAULT '{}';
