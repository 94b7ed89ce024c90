-- Snapshots that a store lets nobody delete for a while, and stores where nobody may delete at all.

-- What snapshots in it are locked with that are written from now on: JSON, set once a test has shown that the lock holds.
ALTER TABLE stores ADD COLUMN object_lock TEXT;
-- Whether its credential may delete, as the last test has seen. Absent: nobody knows.
ALTER TABLE stores ADD COLUMN may_delete BIGINT CHECK (may_delete IN (0, 1));
UPDATE stores SET may_delete = CASE
    WHEN last_test LIKE '%"ability":"delete","found":"yes"%' THEN 1 WHEN last_test LIKE '%"ability":"delete","found":"no"%' THEN 0 END;

-- Until when the objects that a job writes are to be locked, as its worker was told.
ALTER TABLE jobs ADD COLUMN lock_until BIGINT;

-- Until when nothing deletes the snapshot: the end of the last lock, be it of the place where it was made to or of a copy.
ALTER TABLE snapshots ADD COLUMN locked_until BIGINT;
-- The end of the lock where it was made to.
ALTER TABLE snapshots ADD COLUMN place_locked_until BIGINT;
-- The end of the lock of a copy.
ALTER TABLE snapshot_copies ADD COLUMN locked_until BIGINT;
