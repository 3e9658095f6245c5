-- Admins may show a client certificate instead of a token: a credential is the hash of a token's secret, or the
-- public key of a certificate.

SET LOCAL lock_timeout = '3s';

ALTER TABLE admin_token
    ALTER COLUMN secret_hash DROP NOT NULL,
    ADD COLUMN public_key bytea, -- SubjectPublicKeyInfo of a certificate; null for a token
    ADD CONSTRAINT admin_token_credential CHECK (num_nonnulls(secret_hash, public_key) = 1);
