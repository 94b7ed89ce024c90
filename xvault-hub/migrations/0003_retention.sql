-- Retention: by what a source's snapshots are kept, and deletions that can be called off until they begin.

-- A policy as JSON, as xvault-retention writes it. Absent: nothing of the source is ever deleted by itself. It is the source's:
-- one that is backed up by hand has snapshots, too.
ALTER TABLE sources ADD COLUMN retention_policy TEXT;
UPDATE sources SET retention_policy = (SELECT c.retention_policy FROM schedules c WHERE c.source_id = sources.id);
ALTER TABLE schedules DROP COLUMN retention_policy;
CREATE INDEX sources_with_policy ON sources (id) WHERE retention_policy IS NOT NULL;

-- When all of it was last proven sound: read back in full, or verified. (verified_at is also set for a sample.)
ALTER TABLE snapshots ADD COLUMN fully_verified_at BIGINT;
UPDATE snapshots SET fully_verified_at = verified_at WHERE manifest_json LIKE '%"read_back":{"mode":"full"%';

-- When a worker was first told to remove the snapshot's bytes. From then on it may not be whole any more: it can't be held,
-- and it never goes back to being a backup.
ALTER TABLE snapshots ADD COLUMN deletion_began_at BIGINT;
UPDATE snapshots SET deletion_began_at = updated_at WHERE status = 'deleting' AND EXISTS
    (SELECT 1 FROM jobs WHERE jobs.snapshot_id = snapshots.id AND jobs.type = 'delete_snapshot' AND jobs.runs > 0);

-- Deletions of a source that nobody has begun.
CREATE INDEX jobs_queued_deletions ON jobs (source_id) WHERE type = 'delete_snapshot' AND status = 'queued';
