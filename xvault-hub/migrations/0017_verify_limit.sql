-- What the hub made verifications of lately: their bytes are counted before it makes another.
CREATE INDEX snapshots_asked ON snapshots (check_asked_at) WHERE check_asked_at IS NOT NULL;
