-- For the list of revocations that an edge begins with: those of tokens that could still be alive.
CREATE INDEX permission_grant_revoked ON permission_grant (expires_at) WHERE ended = 'revoked';
