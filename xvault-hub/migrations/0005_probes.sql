-- One unfinished test of a source, so that nobody's tests keep the workers from everybody's backups.

-- Of those that are there already, the newest of each source goes on.
UPDATE jobs SET status = 'canceled', lease_token = NULL, lease_expires_at = NULL, revision = revision + 1,
    finished_at = updated_at
WHERE type = 'probe' AND status IN ('queued', 'running', 'finalizing')
    AND id < (SELECT MAX(newest.id) FROM jobs newest
              WHERE newest.source_id = jobs.source_id AND newest.type = 'probe'
                  AND newest.status IN ('queued', 'running', 'finalizing'));

CREATE UNIQUE INDEX jobs_one_probe_per_source ON jobs (source_id)
    WHERE type = 'probe' AND status IN ('queued', 'running', 'finalizing');

-- How many tests a tenant has under way.
CREATE INDEX jobs_unfinished_probes ON jobs (tenant_id)
    WHERE type = 'probe' AND status IN ('queued', 'running', 'finalizing');
