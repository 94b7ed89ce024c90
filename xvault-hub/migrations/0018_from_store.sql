-- The store that a download is read from, when somebody chose one of the places where its snapshot lies. NULL: the one that can be
-- reached when the link is opened.
ALTER TABLE downloads ADD COLUMN from_store TEXT;
