-- Log to file system: every bid, in a folder for each minute of its day.
CREATE TABLE q10 (
    auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP(3), extra TEXT, dt TEXT, hm TEXT
) WITH (
    connector = 'delta', path = '${NEXMARK_OUTPUT:-acequia-data/nexmark/q10}', partition_by = 'dt, hm',
    commit_interval = '1 minute'
);

INSERT INTO q10
SELECT
    auction, bidder, price, date_time, extra, date_format(date_time, 'yyyy-MM-dd'), date_format(date_time, 'HH:mm')
FROM bid;
