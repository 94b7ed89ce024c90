-- Copies that were begun: a worker may have made one that it never told of. Written down before a worker may begin, and taken away
-- when the copy is on record. What remains when its snapshot was deleted is swept up.
CREATE TABLE copy_attempts (
    snapshot_id TEXT NOT NULL,
    store_id    TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    source_id   TEXT NOT NULL REFERENCES sources (id),
    -- When one last began.
    begun_at    BIGINT NOT NULL,
    -- When the snapshot was deleted, in milliseconds since 1970: nobody wants the copy from then on.
    deleted_at  BIGINT,
    -- When a sweep was last told of it. 0: never. A sweep is told of so many; they take turns.
    told_at     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (snapshot_id, store_id)
);
CREATE INDEX copy_attempts_by_store ON copy_attempts (store_id, tenant_id, deleted_at);
INSERT INTO copy_attempts (snapshot_id, store_id, tenant_id, source_id, begun_at)
    SELECT n.id, j.store_id, n.tenant_id, n.source_id, MAX(COALESCE(j.started_at, j.created_at))
    FROM jobs j JOIN snapshots n ON n.id = j.snapshot_id JOIN stores s ON s.id = j.store_id
    WHERE j.type = 'replicate' AND j.runs > 0
        AND NOT EXISTS (SELECT 1 FROM snapshot_copies c WHERE c.snapshot_id = n.id AND c.store_id = j.store_id)
    GROUP BY n.id, j.store_id, n.tenant_id, n.source_id;

-- Second stores are swept, too: those that copies were ever begun in.
INSERT INTO store_sweeps (store_id, tenant_id, next_at)
    SELECT DISTINCT j.store_id, j.tenant_id, 0 FROM jobs j JOIN stores s ON s.id = j.store_id
    WHERE j.type = 'replicate' AND j.runs > 0
        AND NOT EXISTS (SELECT 1 FROM store_sweeps w WHERE w.store_id = j.store_id AND w.tenant_id = j.tenant_id);
