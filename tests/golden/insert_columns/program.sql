-- Listed columns in another order; the others are null.
CREATE TABLE events (
    k TEXT, v BIGINT, ts TIMESTAMP,
    WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
CREATE TABLE copies (id BIGINT, name TEXT, note TEXT) WITH (connector = 'blackhole');
INSERT INTO copies (name, id) SELECT k, v FROM events;
INSERT INTO copies SELECT v + 100, k, 'again' FROM events WHERE v = 2;
