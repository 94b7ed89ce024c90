-- Whose part of which store is swept when: each that a backup was ever made into.
CREATE TABLE store_sweeps (
    store_id  TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    next_at   BIGINT NOT NULL,
    PRIMARY KEY (store_id, tenant_id)
);
CREATE INDEX store_sweeps_due ON store_sweeps (next_at);
-- One unfinished test, and one unfinished sweep, of a tenant's part of a store.
CREATE UNIQUE INDEX jobs_one_test_per_store ON jobs (store_id, tenant_id)
    WHERE type = 'test_store' AND status IN ('queued', 'running', 'finalizing');
CREATE UNIQUE INDEX jobs_one_sweep_per_store ON jobs (store_id, tenant_id)
    WHERE type = 'sweep_store' AND status IN ('queued', 'running', 'finalizing');
