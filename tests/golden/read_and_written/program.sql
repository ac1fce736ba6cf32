-- One table that is written by one query and read by another; what surrounds a record is only read.
CREATE TABLE inbox (id BIGINT, name TEXT) WITH (connector = 'file', path = 'inbox.jsonl');
CREATE TABLE orders (
    id BIGINT, name TEXT, raw TEXT METADATA FROM 'value', place BIGINT METADATA FROM 'offset'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'orders', key_field = 'id');
INSERT INTO orders SELECT id, upper(name) FROM inbox;
SELECT id, raw FROM orders;
