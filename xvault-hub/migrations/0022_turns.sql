-- When a sweep was last told to look for what this attempt may have left, in milliseconds since 1970. 0: never. A sweep looks for so
-- many; they take turns.
ALTER TABLE store_attempts ADD COLUMN told_at BIGINT NOT NULL DEFAULT 0;
