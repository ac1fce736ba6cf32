-- Get URL directories: the parts of the page's path.
CREATE TABLE q22 (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, dir1 TEXT, dir2 TEXT, dir3 TEXT)
WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q22
SELECT
    auction, bidder, price, channel,
    split_index(url, '/', 3), split_index(url, '/', 4), split_index(url, '/', 5)
FROM bid;
