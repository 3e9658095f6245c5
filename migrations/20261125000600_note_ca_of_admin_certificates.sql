-- An admin's certificate counts only while the CA that has certified it does.

SET LOCAL lock_timeout = '3s';

ALTER TABLE admin_token ADD COLUMN certified_by uuid; -- the CA's row in own_key; null for a token

-- Before this was noted: the CA that was active at the time.
UPDATE admin_token SET certified_by = (
    SELECT own_key.id FROM own_key
    WHERE purpose = 'ca' AND activated_at <= admin_token.created_at
    ORDER BY activated_at DESC LIMIT 1
)
WHERE public_key IS NOT NULL;
