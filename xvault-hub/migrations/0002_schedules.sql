-- What the scheduler needs to know of a schedule, and of the source that it is to have backed up in time.

-- Grows with every change: who wrote last is known.
ALTER TABLE schedules ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
-- What the times of `interval_minutes` are counted from.
ALTER TABLE schedules ADD COLUMN anchor_at BIGINT NOT NULL DEFAULT 0;
UPDATE schedules SET anchor_at = created_at;
-- Why its last run made no job: a word for programs, and a sentence. Absent: it made `last_job_id`.
ALTER TABLE schedules ADD COLUMN last_skip_code TEXT;
ALTER TABLE schedules ADD COLUMN last_skip_message TEXT;
-- Since when snapshots are expected of it: it was made, changed or enabled then, or its source was last seen disabled.
ALTER TABLE schedules ADD COLUMN watched_since BIGINT NOT NULL DEFAULT 0;
UPDATE schedules SET watched_since = created_at;
-- When the next whole snapshot was expected, as the watch saw it last, and from when on it is overdue: no earlier does the
-- watch look again. Absent: it is disabled.
ALTER TABLE schedules ADD COLUMN expected_at BIGINT;
ALTER TABLE schedules ADD COLUMN overdue_after BIGINT;
-- When it was seen and told that the source is overdue. Absent: it is not, as far as the watch has seen.
ALTER TABLE schedules ADD COLUMN overdue_at BIGINT;
CREATE INDEX schedules_to_watch ON schedules (overdue_after) WHERE enabled = 1 AND overdue_at IS NULL;
CREATE INDEX schedules_overdue ON schedules (overdue_at) WHERE overdue_at IS NOT NULL;

-- The schedule that made a job. It may be gone by now.
ALTER TABLE jobs ADD COLUMN schedule_id TEXT;

-- The last whole snapshot of a source, by the hub's clock.
CREATE INDEX snapshots_whole ON snapshots (source_id, created_at) WHERE status = 'completed';
