-- Grants and changes are written by the batch, and a foreign key costs a trigger and a lookup for each row: together
-- more than the rows themselves. What they refer to cannot be missing: the transaction of a grant holds share locks on
-- its machine, API key and policy version, machines, keys and versions are never deleted, and a change is only appended
-- in the statement that has updated its stream's head.
ALTER TABLE permission_grant
    DROP CONSTRAINT permission_grant_machine_id_fkey,
    DROP CONSTRAINT permission_grant_api_key_id_fkey,
    DROP CONSTRAINT permission_grant_policy_version_fkey;
ALTER TABLE change DROP CONSTRAINT change_stream_fkey;
