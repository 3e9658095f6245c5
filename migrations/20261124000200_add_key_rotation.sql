-- Rotation of the keys that sign tokens: prepared → active → retired. The table has the states, and
-- `own_key_active` holds that each purpose has at most one active key.

SET LOCAL lock_timeout = '3s';

-- created_at is when it was prepared, and published with it; only an active key signs.
-- The sealed secret of a retired key is wiped: it is empty then.
ALTER TABLE own_key
    ADD COLUMN accepted_until timestamptz, -- set at retirement: when the last token that it signed has ended
    ADD COLUMN dropped_at     timestamptz; -- taken out of the published keys: its tokens are refused from then on

ALTER TABLE own_key
    ADD CONSTRAINT own_key_times CHECK (
        (state <> 'active' OR activated_at IS NOT NULL)
        AND (state = 'retired') = (retired_at IS NOT NULL)
        AND (state = 'retired') = (accepted_until IS NOT NULL)
        AND (dropped_at IS NULL OR state = 'retired')
    );
