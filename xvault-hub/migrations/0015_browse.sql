-- How many looks into its snapshots a tenant has under way.
CREATE INDEX jobs_unfinished_browses ON jobs (tenant_id)
    WHERE type = 'browse' AND status IN ('queued', 'running', 'finalizing');
