-- What links to a worker's downloads begin with; NULL: it serves none.
ALTER TABLE workers ADD COLUMN download_url TEXT;

-- Links to downloads. The token of a link is signed and not kept; a row says what the link gives, and how often it was used.
CREATE TABLE downloads (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants(id),
    -- May be gone: then the link says so.
    snapshot_id TEXT NOT NULL,
    -- The restore job that prepared it, if one did.
    job_id TEXT,
    -- JSON: an archive with its format and paths, one file, or an encrypted file as it is.
    content TEXT NOT NULL,
    file_name TEXT NOT NULL,
    -- 1: good for one use.
    single_use BIGINT NOT NULL,
    uses BIGINT NOT NULL DEFAULT 0,
    last_used_at BIGINT,
    expires_at BIGINT NOT NULL,
    -- The user or API key that asked for it.
    created_by TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX downloads_by_end ON downloads (expires_at);
CREATE UNIQUE INDEX downloads_of_job ON downloads (job_id) WHERE job_id IS NOT NULL;
