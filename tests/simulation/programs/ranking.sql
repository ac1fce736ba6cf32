CREATE VIEW tumbling AS
SELECT tumble(INTERVAL '1 second') AS window, k, count(*) AS c, sum(v) AS s FROM clicks GROUP BY window, k;
CREATE TABLE of_windows (w TIMESTAMP, most BIGINT, groups BIGINT) WITH (connector = 'blackhole');
INSERT INTO of_windows SELECT window['start'], max(c), count(*) FROM tumbling GROUP BY window;
CREATE TABLE best (w TIMESTAMP, k TEXT, c BIGINT, place BIGINT) WITH (connector = 'blackhole');
INSERT INTO best
SELECT window['start'], k, c, place
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window ORDER BY c DESC, s DESC, k NULLS LAST) AS place FROM tumbling)
WHERE place <= 2;
