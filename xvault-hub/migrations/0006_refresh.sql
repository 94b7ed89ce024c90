-- A refresh token whose answer was lost may be shown again: which token was given for which must be known.

-- The token that was shown for this one. Absent: a login was.
ALTER TABLE refresh_tokens ADD COLUMN parent_id TEXT;
CREATE INDEX refresh_tokens_by_parent ON refresh_tokens (parent_id) WHERE parent_id IS NOT NULL;
