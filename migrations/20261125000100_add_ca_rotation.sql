-- Rotation of the CA, and of the master key.

SET LOCAL lock_timeout = '3s';

-- A new CA's key, certified by the CA that was active when it was prepared (RFC 4210 §4.4, "new with old"):
-- servers present it, so that who knows only the CA before can go on trusting them.
-- NULL: not a CA, or the first.
ALTER TABLE own_key
    ADD COLUMN cross_certificate bytea,
    ADD COLUMN cross_certified_by uuid,
    ADD COLUMN master_key_id text; -- which master key `sealed` is sealed under; NULL: sealed before this was noted

ALTER TABLE own_key
    ADD CONSTRAINT own_key_cross CHECK (
        (cross_certificate IS NULL) = (cross_certified_by IS NULL)
        AND (cross_certificate IS NULL OR purpose = 'ca')
    );
