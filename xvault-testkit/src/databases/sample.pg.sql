CREATE SCHEMA "odd "" schema's 😀";
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', '😀');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TABLE plain (id bigserial PRIMARY KEY, name text NOT NULL, mood mood, amount numeric(30, 10), at timestamptz, raw bytea, list text[], doc jsonb);
INSERT INTO plain (name, mood, amount, at, raw, list, doc)
  SELECT E'row\t' || n || E'\nit''s \\N \\. "quoted" 😀', (enum_range(NULL::mood))[1 + n % 3], n / 7.0, '2026-01-01'::timestamptz + n * interval '1 hour',
    decode(lpad(to_hex(n), 64, '0'), 'hex'), ARRAY['a', NULL, E'b\\"'], jsonb_build_object('n', n, 'text', E'\u00e9')
  FROM generate_series(1, 2000) n;
INSERT INTO plain (name) VALUES (''), (E'\\.'), (E'\\restrict x'), (E'\\! touch /tmp/owned');
CREATE TABLE "odd "" schema's 😀"."table
with
lines; DROP TABLE plain; --" ("column "" '
x" positive, b text DEFAULT E'it''s\n');
INSERT INTO "odd "" schema's 😀"."table
with
lines; DROP TABLE plain; --" VALUES (1, DEFAULT), (2, NULL);
CREATE TABLE "UPPER Case" (id int GENERATED ALWAYS AS IDENTITY, w int, h int, area int GENERATED ALWAYS AS (w * h) STORED);
INSERT INTO "UPPER Case" (w, h) SELECT n, n + 1 FROM generate_series(1, 50) n;
CREATE TABLE parent (id int PRIMARY KEY, part int) ;
CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent ON DELETE CASCADE);
INSERT INTO parent SELECT n, n % 3 FROM generate_series(1, 20) n;
INSERT INTO child SELECT n, 1 + n % 20 FROM generate_series(1, 40) n;
CREATE TABLE parts (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE parts_b PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT '2026-01-01'::date + n, n FROM generate_series(0, 300) n;
CREATE TABLE large (id int, body text);
INSERT INTO large SELECT n, repeat(chr(64 + n) || '😀', 200000) FROM generate_series(1, 3) n;
CREATE TABLE empty ();
CREATE SEQUENCE counter START 7 INCREMENT 3;
SELECT nextval('counter'), nextval('counter');
CREATE INDEX "odd index" ON plain (lower(name)) WHERE id > 10;
CREATE VIEW sums AS SELECT mood, count(*) AS "how many?" FROM plain GROUP BY mood;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM plain;
CREATE FUNCTION "add it"(a int, b int) RETURNS int LANGUAGE plpgsql AS $body$ BEGIN RETURN a + b; /* $$ ' */ END $body$;
CREATE PROCEDURE nothing() LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.w := coalesce(NEW.w, 0); RETURN NEW; END $$;
CREATE TRIGGER "stamp it" BEFORE INSERT ON "UPPER Case" FOR EACH ROW EXECUTE FUNCTION stamp();
COMMENT ON TABLE plain IS E'it''s\na comment';
ALTER TABLE parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON parent USING (part = 1);
SELECT lo_from_bytea(4242, '\x00ff10');
