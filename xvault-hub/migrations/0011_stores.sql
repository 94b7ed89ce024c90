-- Stores that tenants and operators save, and what jobs write into them.

-- What requests to the bucket are signed with, as an age file to a KEK: for stores that have no credential_id.
ALTER TABLE stores ADD COLUMN ciphertext BYTEA;
-- Which KEK.
ALTER TABLE stores ADD COLUMN kek_id TEXT;
-- How a job's own credentials are made of them: JSON without secrets. Absent: jobs get the store's own.
ALTER TABLE stores ADD COLUMN scoping TEXT;
-- Sources that name no store when they are made get this one.
ALTER TABLE stores ADD COLUMN is_default BIGINT NOT NULL DEFAULT 0 CHECK (is_default IN (0, 1));
-- What its last test saw (JSON), and when that was.
ALTER TABLE stores ADD COLUMN last_test TEXT;
ALTER TABLE stores ADD COLUMN tested_at BIGINT;
CREATE UNIQUE INDEX stores_one_default ON stores (is_default) WHERE is_default = 1;
CREATE INDEX stores_by_credential ON stores (credential_id);
CREATE INDEX sources_by_store ON sources (store_id);
CREATE INDEX snapshots_by_store ON snapshots (store_id);

-- The store that a job writes to, tests or sweeps. No reference: jobs outlive stores.
ALTER TABLE jobs ADD COLUMN store_id TEXT;
CREATE INDEX jobs_by_store ON jobs (store_id) WHERE status IN ('queued', 'running', 'finalizing');

-- Snapshots that attempts at backups may have left in a bucket: written down before a worker may begin, and taken away when the
-- snapshot is on record. What remains of attempts that are over is swept up.
CREATE TABLE store_attempts (
    snapshot_id TEXT PRIMARY KEY,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    source_id   TEXT NOT NULL REFERENCES sources (id),
    job_id      TEXT NOT NULL REFERENCES jobs (id),
    store_id    TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    created_at  BIGINT NOT NULL
);
CREATE INDEX store_attempts_by_store ON store_attempts (store_id, tenant_id, created_at);
