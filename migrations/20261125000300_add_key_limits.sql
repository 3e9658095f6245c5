-- What API keys may do at most: how often they are used, and from where. Edges lease shares of the rates.

SET LOCAL lock_timeout = '3s';

ALTER TABLE api_key
    ADD COLUMN rate_per_second  integer CHECK (rate_per_second BETWEEN 1 AND 1000000), -- of all calls; NULL: no limit
    ADD COLUMN rate_burst       integer CHECK (rate_burst BETWEEN 1 AND 1000000),
    ADD COLUMN tool_rates       jsonb   NOT NULL DEFAULT '{}',                         -- {"validate_token": {"per_second": 50, "burst": 100}}
    ADD COLUMN allowed_networks text[]  NOT NULL DEFAULT '{}' CHECK (cardinality(allowed_networks) <= 100); -- CIDR; none: anywhere

ALTER TABLE api_key
    ADD CONSTRAINT api_key_rate CHECK ((rate_per_second IS NULL) = (rate_burst IS NULL));

-- Who holds which share of a limit: one row for each limit that is in use. Unlogged, as a share lives for seconds;
-- written several times a second, so with room on its pages and without another index.
CREATE UNLOGGED TABLE rate_bucket (
    api_key_id uuid NOT NULL,
    tool       text NOT NULL, -- '': all calls
    state      json NOT NULL, -- identity/rates/shares.rs; null: nobody has had a share yet
    PRIMARY KEY (api_key_id, tool)
) WITH (fillfactor = 50);

-- A crash of PostgreSQL, or a failover, empties unlogged tables while edges still hold shares: then this row is
-- missing, and for the length of one lease nobody gets more than newcomers do.
CREATE UNLOGGED TABLE rate_table (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    whole_at timestamptz NOT NULL -- from then on, every share that is in use stands in rate_bucket
);

INSERT INTO rate_table (whole_at) VALUES (clock_timestamp());
