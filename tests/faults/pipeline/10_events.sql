-- What the test writes: good rows, bad records, and rows that are a day late.
CREATE TABLE events (
    id BIGINT NOT NULL, kind TEXT NOT NULL, amount BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
) WITH (
    connector = 'kafka', bootstrap_servers = '${KAFKA}', topic = '${TRIAL}-in',
    bad_rows = 'dead_letters', late_rows = 'late_events',
    -- Nothing may go by the clock: what is late must be certain.
    idle_timeout = '1 hour'
);

CREATE TABLE dead_letters (reason TEXT, "partition" INT, value TEXT)
WITH (connector = 'postgres', url = '${POSTGRES}', table = '${TRIAL}.dead_letters', create = 'true', timeout = '5 seconds');

CREATE TABLE late_events (id BIGINT, kind TEXT, amount BIGINT, ts TIMESTAMP)
WITH (connector = 'postgres', url = '${POSTGRES}', table = '${TRIAL}.late_events', create = 'true', timeout = '5 seconds');
