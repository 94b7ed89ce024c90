-- Keys that Garage made for one job or one link each: so that they go when these are over.
CREATE TABLE store_keys (
    access_key_id TEXT NOT NULL,
    store_id      TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    -- The job that it was made for, and which run of it (jobs.runs). Absent: for a link, until it ends. No reference: a key outlives
    -- its job for a while.
    job_id        TEXT,
    run           BIGINT NOT NULL DEFAULT 0,
    -- When Garage stops to accept it, in milliseconds since 1970.
    expires_at    BIGINT NOT NULL,
    -- When the job was first seen to be over: its worker may still have to clean up.
    over_since    BIGINT,
    PRIMARY KEY (store_id, access_key_id)
);
CREATE INDEX store_keys_by_end ON store_keys (expires_at);
