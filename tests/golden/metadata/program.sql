-- Where a record stands and the record as it came.
CREATE TABLE events (
    k TEXT, place BIGINT METADATA FROM 'offset', part INT METADATA FROM 'partition', raw TEXT METADATA FROM 'value'
) WITH (connector = 'kafka', bootstrap_servers = 'embedded', topic = 'events');
SELECT k, place, part, raw FROM events WHERE place < 3;
