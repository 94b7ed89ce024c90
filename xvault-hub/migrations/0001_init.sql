-- The hub's schema, version 1: one text for PostgreSQL and SQLite.
--
-- Only TEXT, BIGINT, DOUBLE PRECISION and BYTEA occur, because sqlx's `Any` can read these from both. Instants are BIGINT
-- milliseconds since 1970 (UTC), flags are 0 or 1, documents are JSON in TEXT, and ids match [a-zA-Z0-9_-]{1,64}.

-- Who owns everything else.
CREATE TABLE tenants (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL CHECK (name <> ''),
    plan       TEXT NOT NULL DEFAULT 'free',
    status     TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Who logs in. An operator runs the platform and belongs to no tenant.
CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT REFERENCES tenants (id),
    -- In lower case: a mailbox is one account.
    email         TEXT NOT NULL UNIQUE,
    -- argon2id, in PHC form.
    password_hash TEXT NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('operator', 'owner', 'admin', 'member')),
    status        TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    -- Access tokens made before this instant are void: a new password or role ends all sessions.
    valid_from    BIGINT NOT NULL DEFAULT 0,
    last_login_at BIGINT,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    CHECK ((role = 'operator') = (tenant_id IS NULL))
);
CREATE INDEX users_by_tenant ON users (tenant_id, id);

-- Long-lived tokens that buy access tokens. Each is good for one use; a second use revokes its family.
CREATE TABLE refresh_tokens (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- All tokens that descend from one login.
    family_id  TEXT NOT NULL,
    -- SHA-256 of the token, in hexadecimal.
    token_hash TEXT NOT NULL UNIQUE,
    used_at    BIGINT,
    revoked_at BIGINT,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Tokens for programs.
CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
    name         TEXT NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    -- SHA-256 of the key, in hexadecimal.
    token_hash   TEXT NOT NULL UNIQUE,
    -- The first characters, so that a person can tell keys apart.
    hint         TEXT NOT NULL,
    created_by   TEXT REFERENCES users (id),
    last_used_at BIGINT,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    created_at   BIGINT NOT NULL
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);

-- The age keys that a tenant's snapshots are encrypted to.
CREATE TABLE tenant_keys (
    id                    TEXT PRIMARY KEY,
    tenant_id             TEXT NOT NULL REFERENCES tenants (id),
    algorithm             TEXT NOT NULL DEFAULT 'age-x25519',
    public_key            TEXT NOT NULL,
    -- An age file to the KEK. Absent when the tenant keeps its own identity: then the platform can't decrypt.
    encrypted_private_key BYTEA,
    -- Which KEK.
    kek_id                TEXT,
    -- What it opens: artifact and index, or one of them.
    purpose               TEXT NOT NULL DEFAULT 'all' CHECK (purpose IN ('all', 'data', 'index')),
    key_status            TEXT NOT NULL DEFAULT 'active' CHECK (key_status IN ('active', 'rotated', 'disabled')),
    created_at            BIGINT NOT NULL,
    updated_at            BIGINT NOT NULL
);
CREATE INDEX tenant_keys_by_tenant ON tenant_keys (tenant_id, key_status);

-- Passwords and private keys, encrypted.
CREATE TABLE credentials (
    id         TEXT PRIMARY KEY,
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    kind       TEXT NOT NULL CHECK (kind IN ('source', 'storage')),
    name       TEXT NOT NULL DEFAULT '',
    -- An age file to the KEK.
    ciphertext BYTEA NOT NULL,
    -- Which KEK.
    key_id     TEXT NOT NULL,
    rotated_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX credentials_by_tenant ON credentials (tenant_id, id);
CREATE INDEX credentials_by_kek ON credentials (key_id);

-- Places that snapshots lie in, besides the workers' own disks.
CREATE TABLE stores (
    id            TEXT PRIMARY KEY,
    -- Absent: the platform's.
    tenant_id     TEXT REFERENCES tenants (id),
    name          TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('local_fs', 's3')),
    config        TEXT NOT NULL,
    credential_id TEXT REFERENCES credentials (id),
    -- Where copies go.
    replica_id    TEXT REFERENCES stores (id),
    status        TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);
CREATE INDEX stores_by_tenant ON stores (tenant_id, id);

-- Systems that are backed up.
CREATE TABLE sources (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL REFERENCES tenants (id),
    type          TEXT NOT NULL,
    name          TEXT NOT NULL,
    status        TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'deleted')),
    -- The settings of its type, as the API takes them. No secrets.
    config        TEXT NOT NULL,
    credential_id TEXT REFERENCES credentials (id),
    store_id      TEXT REFERENCES stores (id),
    -- How much of a snapshot is read back: full, sample or off.
    read_back     TEXT NOT NULL DEFAULT 'full' CHECK (read_back IN ('full', 'sample', 'off')),
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);
CREATE INDEX sources_by_tenant ON sources (tenant_id, id);
CREATE INDEX sources_by_credential ON sources (credential_id);

-- When sources are backed up, and how long snapshots are kept.
CREATE TABLE schedules (
    id               TEXT PRIMARY KEY,
    tenant_id        TEXT NOT NULL REFERENCES tenants (id),
    source_id        TEXT NOT NULL UNIQUE REFERENCES sources (id) ON DELETE CASCADE,
    -- Exactly one of the two.
    cron             TEXT,
    interval_minutes BIGINT,
    timezone         TEXT NOT NULL DEFAULT 'UTC',
    enabled          BIGINT NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    retention_policy TEXT,
    next_run_at      BIGINT,
    last_run_at      BIGINT,
    last_job_id      TEXT,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    CHECK ((cron IS NULL) <> (interval_minutes IS NULL))
);
CREATE INDEX schedules_by_tenant ON schedules (tenant_id, id);
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE enabled = 1;

-- The programs that do the work.
CREATE TABLE workers (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL,
    status            TEXT NOT NULL DEFAULT 'offline' CHECK (status IN ('online', 'offline', 'draining')),
    -- An operator wants it to take no more jobs.
    drain             BIGINT NOT NULL DEFAULT 0 CHECK (drain IN (0, 1)),
    -- SHA-256 of its token, in hexadecimal. Absent: revoked.
    token_hash        TEXT UNIQUE,
    -- What secrets for it are sealed to. Absent until it registers.
    recipient         TEXT,
    version           TEXT,
    -- The types of sources it can pull: a JSON list.
    capabilities      TEXT NOT NULL DEFAULT '[]',
    concurrency       BIGINT NOT NULL DEFAULT 0,
    storage_base_path TEXT,
    -- As of the last heartbeat: JSON.
    metrics           TEXT,
    last_seen_at      BIGINT,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL
);

-- Pieces of work. The state columns mean a `xvault_core::job::Life` and change only by its transitions, with `revision`.
CREATE TABLE jobs (
    id                TEXT PRIMARY KEY,
    tenant_id         TEXT NOT NULL REFERENCES tenants (id),
    source_id         TEXT REFERENCES sources (id),
    type              TEXT NOT NULL CHECK (type IN ('backup', 'restore', 'delete_snapshot', 'verify', 'probe')),
    status            TEXT NOT NULL
                      CHECK (status IN ('queued', 'running', 'finalizing', 'completed', 'failed', 'canceled')),
    priority          BIGINT NOT NULL DEFAULT 0,
    -- The only worker that may run it. Absent: any that can.
    target_worker_id  TEXT REFERENCES workers (id),
    -- What kind of source the worker must be able to pull. Absent: none.
    capability        TEXT,
    -- What the job needs besides its columns: JSON with ids only, never a secret.
    payload           TEXT NOT NULL DEFAULT '{}',
    -- What came of it: JSON, a probe's report.
    result            TEXT,
    -- Grows with every change of state: who wrote last is known.
    revision          BIGINT NOT NULL DEFAULT 0,
    attempt           BIGINT NOT NULL DEFAULT 0,
    -- How many times a worker had it. Unlike attempts, these never count back.
    runs              BIGINT NOT NULL DEFAULT 0,
    max_attempts      BIGINT NOT NULL DEFAULT 3,
    not_before        BIGINT NOT NULL,
    worker_id         TEXT REFERENCES workers (id),
    lease_token       TEXT,
    lease_expires_at  BIGINT,
    -- The lease token whose report ended the last attempt: the report may be repeated when its answer was lost.
    done_token        TEXT,
    error_code        TEXT,
    error_message     TEXT,
    -- The snapshot to be deleted or restored, or the one that the present attempt makes.
    snapshot_id       TEXT,
    -- How far it has come: JSON.
    progress          TEXT,
    -- When a message about it was last put into a queue, and how many times since it was queued.
    enqueued_at       BIGINT,
    enqueue_count     BIGINT NOT NULL DEFAULT 0,
    -- While it is queued: when its (next) message is due.
    push_at           BIGINT NOT NULL,
    created_by        TEXT,
    started_at        BIGINT,
    finished_at       BIGINT,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL,
    CHECK ((status IN ('running', 'finalizing')) = (lease_token IS NOT NULL)),
    CHECK ((lease_token IS NULL) = (lease_expires_at IS NULL))
);
CREATE INDEX jobs_by_tenant ON jobs (tenant_id, id);
CREATE INDEX jobs_by_source ON jobs (source_id, id);
CREATE INDEX jobs_queued ON jobs (priority DESC, not_before, id) WHERE status = 'queued';
CREATE INDEX jobs_to_push ON jobs (push_at) WHERE status = 'queued';
CREATE INDEX jobs_by_state ON jobs (status, id);
CREATE INDEX jobs_by_tenant_and_state ON jobs (tenant_id, status, id);
CREATE INDEX jobs_unfinished ON jobs (status, type) WHERE status IN ('queued', 'running', 'finalizing');
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX jobs_by_worker ON jobs (worker_id, id);
-- At most one unfinished backup of a source, and one unfinished deletion of a snapshot.
CREATE UNIQUE INDEX jobs_one_backup_per_source ON jobs (source_id)
    WHERE type = 'backup' AND status IN ('queued', 'running', 'finalizing');
CREATE UNIQUE INDEX jobs_one_deletion_per_snapshot ON jobs (snapshot_id)
    WHERE type = 'delete_snapshot' AND status IN ('queued', 'running', 'finalizing');

-- What jobs say.
CREATE TABLE job_logs (
    job_id    TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    -- Which run of the job: jobs.runs.
    run       BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    logged_at BIGINT NOT NULL,
    level     TEXT NOT NULL CHECK (level IN ('debug', 'info', 'warn', 'error')),
    message   TEXT NOT NULL,
    PRIMARY KEY (job_id, run, seq)
);
CREATE INDEX job_logs_by_age ON job_logs (logged_at);

-- Backups that exist.
CREATE TABLE snapshots (
    id                    TEXT PRIMARY KEY,
    tenant_id             TEXT NOT NULL REFERENCES tenants (id),
    source_id             TEXT NOT NULL REFERENCES sources (id),
    job_id                TEXT NOT NULL REFERENCES jobs (id),
    status                TEXT NOT NULL CHECK (status IN ('completed', 'partial', 'deleting')),
    size_bytes            BIGINT NOT NULL,
    content_bytes         BIGINT NOT NULL,
    files                 BIGINT NOT NULL,
    warnings              BIGINT NOT NULL,
    started_at            BIGINT NOT NULL,
    finished_at           BIGINT NOT NULL,
    duration_ms           BIGINT NOT NULL,
    -- manifest.json as the worker reported it.
    manifest_json         TEXT NOT NULL,
    encryption_algorithm  TEXT NOT NULL,
    encryption_key_id     TEXT NOT NULL,
    encryption_recipient  TEXT NOT NULL,
    -- The locator: where it lies.
    storage_backend       TEXT NOT NULL CHECK (storage_backend IN ('local_fs', 's3')),
    store_id              TEXT REFERENCES stores (id),
    worker_id             TEXT REFERENCES workers (id),
    local_path            TEXT,
    bucket                TEXT,
    object_key            TEXT,
    etag                  TEXT,
    -- Kept whatever retention says, and why.
    held_at               BIGINT,
    hold_reason           TEXT,
    -- When it was last proven sound, by read-back or verification.
    verified_at           BIGINT,
    created_at            BIGINT NOT NULL,
    updated_at            BIGINT NOT NULL
);
CREATE INDEX snapshots_by_tenant ON snapshots (tenant_id, id);
CREATE INDEX snapshots_by_state ON snapshots (status, id);
CREATE INDEX snapshots_by_tenant_and_state ON snapshots (tenant_id, status, id);
CREATE INDEX snapshots_by_source ON snapshots (source_id, id);
CREATE INDEX snapshots_by_worker ON snapshots (worker_id, id);
CREATE INDEX snapshots_by_job ON snapshots (job_id);

-- Values of a tenant, or of the platform (tenant_id is empty).
CREATE TABLE settings (
    tenant_id  TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

-- Who did what to which target, from where. Rows are never changed.
CREATE TABLE audit_events (
    id          TEXT PRIMARY KEY,
    -- Absent: the platform's own.
    tenant_id   TEXT,
    actor_type  TEXT NOT NULL CHECK (actor_type IN ('user', 'api_key', 'operator', 'worker', 'system')),
    actor_id    TEXT,
    action      TEXT NOT NULL,
    target_type TEXT NOT NULL,
    target_id   TEXT,
    ip          TEXT,
    -- JSON, without secrets.
    details     TEXT NOT NULL DEFAULT '{}',
    created_at  BIGINT NOT NULL
);
CREATE INDEX audit_events_by_tenant ON audit_events (tenant_id, id);
