-- Verifications: what they found, when, and how far they went. `verified_at` stays the time when a snapshot was last *proven sound*.

-- When a verification last ended with a finding, and when the last one did that looked inside.
ALTER TABLE snapshots ADD COLUMN checked_at BIGINT;
ALTER TABLE snapshots ADD COLUMN looked_inside_at BIGINT;
-- How far the last one went (quick, deep or restore_test), and which job it was.
ALTER TABLE snapshots ADD COLUMN checked_depth TEXT;
ALTER TABLE snapshots ADD COLUMN checked_by_job_id TEXT;
-- Since when it is known to be damaged, what was found, and how far the verification went that found it: one that goes as far and
-- finds nothing takes the mark away.
ALTER TABLE snapshots ADD COLUMN damaged_at BIGINT;
ALTER TABLE snapshots ADD COLUMN damage TEXT;
ALTER TABLE snapshots ADD COLUMN damage_depth TEXT;
-- When the hub last made a verification of it by itself.
ALTER TABLE snapshots ADD COLUMN check_asked_at BIGINT;
CREATE INDEX snapshots_damaged ON snapshots (tenant_id, id) WHERE damaged_at IS NOT NULL;

-- At most one unfinished verification of a snapshot.
CREATE UNIQUE INDEX jobs_one_verification_per_snapshot ON jobs (snapshot_id)
    WHERE type = 'verify' AND status IN ('queued', 'running', 'finalizing');
CREATE INDEX jobs_unfinished_verifications ON jobs (tenant_id)
    WHERE type = 'verify' AND status IN ('queued', 'running', 'finalizing');
