-- Every operator with state, all of them in one run.
CREATE TABLE clicks (
    n BIGINT, k TEXT, g BIGINT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'clicks', late_rows = 'late_clicks');
CREATE TABLE orders (
    n BIGINT, k TEXT, g BIGINT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'orders');
CREATE TABLE late_clicks (n BIGINT, k TEXT) WITH (connector = 'blackhole');

CREATE VIEW tumbling AS
SELECT tumble(INTERVAL '30 seconds') AS window, k, count(*) AS c, sum(v) AS s, avg(v) AS a, count(DISTINCT g) AS d
FROM clicks GROUP BY window, k;
CREATE VIEW ordered AS
SELECT tumble(INTERVAL '30 seconds') AS window, g, k, count(*) AS c, max(v) AS m FROM orders GROUP BY window, g, k;

CREATE TABLE tumbles (w TIMESTAMP, k TEXT, c BIGINT, s BIGINT, a DOUBLE, d BIGINT) WITH (connector = 'blackhole');
INSERT INTO tumbles SELECT window['start'], k, c, s, a, d FROM tumbling;

CREATE TABLE tumbles_of_all (w TIMESTAMP, c BIGINT, low BIGINT, high BIGINT) WITH (connector = 'blackhole');
INSERT INTO tumbles_of_all
SELECT tumble(INTERVAL '20 seconds')['start'], count(*), min(v), max(v) FROM clicks GROUP BY tumble(INTERVAL '20 seconds');

CREATE TABLE hops (w TIMESTAMP, k TEXT, c BIGINT, s BIGINT, low BIGINT, d BIGINT) WITH (connector = 'blackhole');
INSERT INTO hops
SELECT window['start'], k, c, s, low, d
FROM (SELECT hop(INTERVAL '5 seconds', INTERVAL '40 seconds') AS window, k, count(*) AS c, sum(v) AS s, min(v) AS low,
             count(DISTINCT g) AS d
      FROM clicks GROUP BY window, k);

CREATE TABLE sessions (first TIMESTAMP, until TIMESTAMP, k TEXT, c BIGINT, s BIGINT) WITH (connector = 'blackhole');
INSERT INTO sessions
SELECT window['start'], window['end'], k, c, s
FROM (SELECT session(INTERVAL '7 seconds') AS window, k, count(*) AS c, sum(v) AS s FROM clicks GROUP BY window, k);

CREATE TABLE windows_of_windows (w TIMESTAMP, most BIGINT, groups BIGINT) WITH (connector = 'blackhole');
INSERT INTO windows_of_windows SELECT window['start'], max(c), count(*) FROM tumbling GROUP BY window;

CREATE TABLE best (w TIMESTAMP, k TEXT, c BIGINT, place BIGINT) WITH (connector = 'blackhole');
INSERT INTO best
SELECT window['start'], k, c, place
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window ORDER BY c DESC, s DESC, k) AS place FROM tumbling)
WHERE place <= 2;

CREATE TABLE best_of_each (w TIMESTAMP, g BIGINT, k TEXT, place BIGINT) WITH (connector = 'blackhole');
INSERT INTO best_of_each
SELECT window['start'], g, k, place
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window, g ORDER BY c DESC, m DESC, k) AS place FROM ordered)
WHERE place <= 1;

CREATE TABLE joined (w TIMESTAMP, k TEXT, c BIGINT, m BIGINT) WITH (connector = 'blackhole');
INSERT INTO joined
SELECT a.window['start'], a.k, a.c, b.m FROM tumbling AS a JOIN ordered AS b ON a.window = b.window AND a.k = b.k;

CREATE TABLE joined_full (w TIMESTAMP, w2 TIMESTAMP, k TEXT, k2 TEXT, c BIGINT, m BIGINT) WITH (connector = 'blackhole');
INSERT INTO joined_full
SELECT a.window['start'], b.window['start'], a.k, b.k, a.c, b.m
FROM tumbling AS a FULL JOIN ordered AS b ON a.window = b.window AND a.k = b.k;

-- The sides look alike and are dealt out by different columns.
CREATE VIEW pairs AS
SELECT tumble(INTERVAL '30 seconds') AS window, g AS x, n % 5 AS y, count(*) AS c FROM orders GROUP BY window, g, n % 5;
CREATE TABLE joined_with_itself (w TIMESTAMP, x BIGINT, y BIGINT, z BIGINT, c BIGINT) WITH (connector = 'blackhole');
INSERT INTO joined_with_itself
SELECT a.window['start'], a.x, a.y, b.y, a.c * b.c FROM pairs AS a LEFT JOIN pairs AS b ON a.window = b.window AND a.y = b.x;

CREATE TABLE both (w TIMESTAMP, k TEXT, c BIGINT) WITH (connector = 'blackhole');
INSERT INTO both
SELECT window['start'], k, c
FROM (SELECT tumble(INTERVAL '15 seconds') AS window, k, count(*) AS c
      FROM (SELECT k, ts FROM clicks UNION ALL SELECT k, ts FROM orders) GROUP BY window, k);

CREATE TABLE newest (k TEXT, w TIMESTAMP, c BIGINT, PRIMARY KEY (k))
WITH (connector = 'redis', url = 'embedded', key = 'newest:{k}', emit_early = '2 ms');
INSERT INTO newest SELECT k, window['start'], c FROM tumbling;

CREATE TABLE every_window (w TIMESTAMP, k TEXT, c BIGINT, PRIMARY KEY (w, k))
WITH (connector = 'redis', url = 'embedded', key = 'w:{w}:{k}', emit_early = '2 ms');
INSERT INTO every_window SELECT window['start'], k, c FROM tumbling;

-- Which window a row is of, only its hidden event time tells.
CREATE TABLE last_tumble (k TEXT, last TIMESTAMP, c BIGINT, PRIMARY KEY (k))
WITH (connector = 'redis', url = 'embedded', key = 'tumble:{k}', emit_early = '2 ms');
INSERT INTO last_tumble SELECT k, max(ts), count(*) FROM clicks GROUP BY tumble(INTERVAL '30 seconds'), k;

CREATE TABLE last_hop (k TEXT, last TIMESTAMP, c BIGINT, PRIMARY KEY (k))
WITH (connector = 'redis', url = 'embedded', key = 'hop:{k}', emit_early = '2 ms');
INSERT INTO last_hop
SELECT k, max(ts), count(*) FROM clicks GROUP BY hop(INTERVAL '5 seconds', INTERVAL '40 seconds'), k;

CREATE TABLE totals (k TEXT, c BIGINT, s BIGINT, PRIMARY KEY (k))
WITH (connector = 'redis', url = 'embedded', key = 'totals:{k}');
INSERT INTO totals SELECT k, count(*), sum(v) FROM clicks GROUP BY k;
