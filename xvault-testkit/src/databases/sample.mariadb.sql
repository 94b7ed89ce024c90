SET NAMES utf8mb4;
CREATE TABLE plain (id BIGINT AUTO_INCREMENT PRIMARY KEY, name TEXT NOT NULL, mood ENUM('sad', 'it''s "ok"', 'ü日'), amount DECIMAL(30, 10), at TIMESTAMP(6) NULL, raw VARBINARY(64), bits BIT(5), doc JSON) DEFAULT CHARSET utf8mb4;
INSERT INTO plain (name, mood, amount, at, raw, bits, doc)
  SELECT CONCAT('row\t', seq, '\nit''s \\N \\. "quoted" 😀'), 1 + seq % 3, seq / 7, FROM_UNIXTIME(1767225600 + seq * 3600.5), UNHEX(LPAD(HEX(seq), 64, '0')), seq % 32, JSON_OBJECT('n', seq, 'text', 'é\\')
  FROM seq_1_to_2000;
INSERT INTO plain (name) VALUES (''), ('\\! touch /tmp/owned'), ('/*M!999999\\- x */'), ('\Z\0\r\n');
CREATE TABLE `table
with ``lines``; DROP TABLE plain; -- "日本é'` (`column `` '
x` INT, b TEXT DEFAULT 'it''s\n');
INSERT INTO `table
with ``lines``; DROP TABLE plain; -- "日本é'` VALUES (1, DEFAULT), (2, NULL);
CREATE TABLE `UPPER Case` (id INT AUTO_INCREMENT PRIMARY KEY, w INT, h INT, area INT AS (w * h) STORED, twice INT AS (w * 2) VIRTUAL, KEY `odd key` (area));
INSERT INTO `UPPER Case` (w, h) SELECT seq, seq + 1 FROM seq_1_to_50;
CREATE TABLE parent (id INT PRIMARY KEY, part INT);
CREATE TABLE child (id INT PRIMARY KEY, parent INT NOT NULL, CONSTRAINT `fk '` FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE);
INSERT INTO parent SELECT seq, seq % 3 FROM seq_1_to_20;
INSERT INTO child SELECT seq, 1 + seq % 20 FROM seq_1_to_40;
CREATE TABLE parts (day DATE, n INT) PARTITION BY RANGE (YEAR(day)) (PARTITION a VALUES LESS THAN (2026), PARTITION b VALUES LESS THAN MAXVALUE);
INSERT INTO parts SELECT '2025-10-01' + INTERVAL seq DAY, seq FROM seq_0_to_300;
CREATE TABLE large (id INT, body LONGTEXT, raw LONGBLOB) DEFAULT CHARSET utf8mb4;
INSERT INTO large SELECT seq, REPEAT(CONCAT(CHAR(64 + seq), '😀'), 200000), REPEAT(UNHEX('00FF0A0D1A275C'), 50000) FROM seq_1_to_3;
CREATE TABLE latin (a VARCHAR(20)) DEFAULT CHARSET latin1;
INSERT INTO latin VALUES ('é'), ('ü');
CREATE TABLE empty (a INT);
CREATE SEQUENCE counter START WITH 7 INCREMENT BY 3 NOCACHE;
SELECT NEXTVAL(counter);
CREATE VIEW sums AS SELECT mood, COUNT(*) AS `how many?` FROM plain GROUP BY mood;
CREATE FUNCTION `add it`(a INT, b INT) RETURNS INT DETERMINISTIC RETURN a + b;
DELIMITER ;;
CREATE PROCEDURE nothing(IN `x y` INT) BEGIN /* it's; */ SELECT `x y`; SELECT ';;'; END ;;
CREATE TRIGGER `stamp it` BEFORE INSERT ON `UPPER Case` FOR EACH ROW BEGIN SET NEW.w = COALESCE(NEW.w, 0); END ;;
CREATE EVENT `every year` ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01 00:00:00' DISABLE DO BEGIN DELETE FROM empty; END ;;
DELIMITER ;
