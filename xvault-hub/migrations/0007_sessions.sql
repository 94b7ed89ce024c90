-- People see their sessions and end them; the audit log is searched.

-- When the login was that the token descends from.
ALTER TABLE refresh_tokens ADD COLUMN session_at BIGINT NOT NULL DEFAULT 0;
UPDATE refresh_tokens SET session_at =
    (SELECT MIN(earliest.created_at) FROM refresh_tokens earliest WHERE earliest.family_id = refresh_tokens.family_id);
-- Where it was given to.
ALTER TABLE refresh_tokens ADD COLUMN ip TEXT;

CREATE INDEX audit_events_by_action ON audit_events (action, id);
CREATE INDEX audit_events_by_target ON audit_events (target_id, id);
