-- What is partial says so by its warnings, also once it is `deleting`; the audit log of a tenant is searched by action.

-- Snapshots of before, where only the status told: one whose deletion was called off became `completed`.
UPDATE snapshots SET warnings = 1, status = CASE status WHEN 'completed' THEN 'partial' ELSE status END
    WHERE warnings = 0 AND (status = 'partial' OR manifest_json LIKE '%"completeness":"partial"%');

CREATE INDEX audit_events_by_tenant_and_action ON audit_events (tenant_id, action, id);
