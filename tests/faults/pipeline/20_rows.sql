-- Every row, and a part of them, to the places that add.
CREATE TABLE warehouse (id BIGINT, kind TEXT, amount BIGINT, ts TIMESTAMP)
WITH (connector = 'postgres', url = '${POSTGRES}', table = '${TRIAL}.events', create = 'true', timeout = '5 seconds');

INSERT INTO warehouse SELECT id, kind, amount, ts FROM events;

CREATE TABLE topic (id BIGINT, kind TEXT, amount BIGINT, ts TIMESTAMP)
WITH (
    connector = 'kafka', bootstrap_servers = '${KAFKA}', topic = '${TRIAL}-out', key_field = 'kind',
    'properties.transaction.timeout.ms' = '${TRANSACTION_TIMEOUT:-60000}'
);

INSERT INTO topic SELECT id, kind, amount, ts FROM events WHERE amount >= 200;

CREATE TABLE lines (id BIGINT, kind TEXT, amount BIGINT, ts TIMESTAMP)
WITH (connector = 'file', path = '${PLACE}/lines.jsonl');

INSERT INTO lines SELECT id, kind, amount, ts FROM events WHERE kind <> 'search';

CREATE TABLE history (id BIGINT, kind TEXT, amount BIGINT, ts TIMESTAMP)
WITH (connector = 'file', format = 'parquet', path = '${PLACE}/history', roll_rows = '200');

INSERT INTO history SELECT id, kind, amount, ts FROM events WHERE amount < 800;

CREATE TABLE lake (id BIGINT, kind TEXT, amount BIGINT, ts TIMESTAMP)
WITH (
    connector = 'delta', path = '${PLACE}/lake', commit_interval = '100 ms', compaction_interval = '500 ms',
    checkpoint_every = '20', retention = '1 second'
);

INSERT INTO lake SELECT id, kind, amount, ts FROM events WHERE amount < 900;
