-- Kinds of jobs that came with restores and stores. The list of kinds is a check of its column, which neither database can
-- change: the column is made anew, with the indexes that name it.
ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'backup'
    CHECK (kind IN ('backup', 'restore', 'delete_snapshot', 'verify', 'probe', 'browse', 'replicate', 'test_store', 'sweep_store'));
UPDATE jobs SET kind = type;
DROP INDEX jobs_unfinished;
DROP INDEX jobs_one_backup_per_source;
DROP INDEX jobs_one_deletion_per_snapshot;
DROP INDEX jobs_queued_deletions;
DROP INDEX jobs_by_type;
DROP INDEX jobs_by_tenant_and_type;
DROP INDEX jobs_one_probe_per_source;
DROP INDEX jobs_unfinished_probes;
ALTER TABLE jobs DROP COLUMN type;
ALTER TABLE jobs RENAME COLUMN kind TO type;
CREATE INDEX jobs_unfinished ON jobs (status, type) WHERE status IN ('queued', 'running', 'finalizing');
CREATE UNIQUE INDEX jobs_one_backup_per_source ON jobs (source_id)
    WHERE type = 'backup' AND status IN ('queued', 'running', 'finalizing');
CREATE UNIQUE INDEX jobs_one_deletion_per_snapshot ON jobs (snapshot_id)
    WHERE type = 'delete_snapshot' AND status IN ('queued', 'running', 'finalizing');
CREATE INDEX jobs_queued_deletions ON jobs (source_id) WHERE type = 'delete_snapshot' AND status = 'queued';
CREATE INDEX jobs_by_type ON jobs (type, id);
CREATE INDEX jobs_by_tenant_and_type ON jobs (tenant_id, type, id);
CREATE UNIQUE INDEX jobs_one_probe_per_source ON jobs (source_id)
    WHERE type = 'probe' AND status IN ('queued', 'running', 'finalizing');
CREATE INDEX jobs_unfinished_probes ON jobs (tenant_id)
    WHERE type = 'probe' AND status IN ('queued', 'running', 'finalizing');

-- Who reads a snapshot: its bytes stay until they are done.
CREATE INDEX jobs_reading ON jobs (snapshot_id)
    WHERE type IN ('restore', 'verify', 'browse', 'replicate') AND status IN ('queued', 'running', 'finalizing');
