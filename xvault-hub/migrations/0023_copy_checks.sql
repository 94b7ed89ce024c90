-- What verifications found of a copy, column by column as in `snapshots`: these say nothing of the first place, and those nothing of a copy.
-- When the copy was last proven sound, and when all of it was.
ALTER TABLE snapshot_copies ADD COLUMN verified_at BIGINT;
ALTER TABLE snapshot_copies ADD COLUMN fully_verified_at BIGINT;
-- When a verification of it last ended with a finding, when the last one did that looked inside, how far the last one went, and which job it was.
ALTER TABLE snapshot_copies ADD COLUMN checked_at BIGINT;
ALTER TABLE snapshot_copies ADD COLUMN looked_inside_at BIGINT;
ALTER TABLE snapshot_copies ADD COLUMN checked_depth TEXT;
ALTER TABLE snapshot_copies ADD COLUMN checked_by_job_id TEXT;
-- Since when it is known to be damaged, what was found, and how far the verification went that found it.
ALTER TABLE snapshot_copies ADD COLUMN damaged_at BIGINT;
ALTER TABLE snapshot_copies ADD COLUMN damage TEXT;
ALTER TABLE snapshot_copies ADD COLUMN damage_depth TEXT;
