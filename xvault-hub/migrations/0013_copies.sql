-- Copies of snapshots in second stores.

-- Where copies of a source's snapshots go. Absent: where its store says.
ALTER TABLE sources ADD COLUMN replica_store_id TEXT REFERENCES stores (id);
CREATE INDEX sources_by_replica ON sources (replica_store_id);

-- Copies that exist. A row outlives its snapshot when the copy could not be deleted: it says what is still to be done.
CREATE TABLE snapshot_copies (
    snapshot_id TEXT NOT NULL,
    store_id    TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    source_id   TEXT NOT NULL REFERENCES sources (id),
    -- kept: the snapshot was deleted, and the store's credential may not delete.
    status      TEXT NOT NULL DEFAULT 'copied' CHECK (status IN ('copied', 'kept')),
    -- The locator, in a bucket.
    bucket      TEXT NOT NULL,
    object_key  TEXT NOT NULL,
    etag        TEXT,
    -- The job that made it.
    job_id      TEXT NOT NULL,
    copied_at   BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (snapshot_id, store_id)
);
CREATE INDEX snapshot_copies_by_store ON snapshot_copies (store_id, status);

-- At most one unfinished copying of a snapshot into a store.
CREATE UNIQUE INDEX jobs_one_copy ON jobs (snapshot_id, store_id)
    WHERE type = 'replicate' AND status IN ('queued', 'running', 'finalizing');
-- What was tried.
CREATE INDEX jobs_copying ON jobs (snapshot_id, store_id, finished_at) WHERE type = 'replicate';
