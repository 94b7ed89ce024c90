-- Lists of jobs of one type, newest first: a rare one is found without reading the others.

CREATE INDEX jobs_by_type ON jobs (type, id);
CREATE INDEX jobs_by_tenant_and_type ON jobs (tenant_id, type, id);
