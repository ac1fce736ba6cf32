CREATE VIEW seconds AS SELECT tumble(INTERVAL '1 second') AS window, k, count(*) AS c FROM clicks GROUP BY window, k;
CREATE TABLE newest (k TEXT, w TIMESTAMP, c BIGINT, PRIMARY KEY (k))
WITH (connector = 'redis', url = 'embedded', key = 'newest:{k}', emit_early = '150 ms');
INSERT INTO newest SELECT k, window['start'], c FROM seconds;
CREATE TABLE every_window (w TIMESTAMP, k TEXT, c BIGINT, PRIMARY KEY (w, k))
WITH (connector = 'redis', url = 'embedded', key = 'w:{w}:{k}', emit_early = '150 ms');
INSERT INTO every_window SELECT window['start'], k, c FROM seconds;
CREATE TABLE last_count (k TEXT, c BIGINT, PRIMARY KEY (k))
WITH (connector = 'redis', url = 'embedded', key = 'last:{k}', emit_early = '150 ms');
INSERT INTO last_count SELECT k, count(*) FROM clicks GROUP BY tumble(INTERVAL '1 second'), k;
