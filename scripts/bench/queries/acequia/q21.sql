-- Nexmark q21: a number for each channel.
CREATE TABLE results (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, channel_id TEXT)
WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = '${RESULTS}');

INSERT INTO results
SELECT auction, bidder, price, channel,
       CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
            ELSE regexp_match(url, '(&|^)channel_id=([^&]*)')[2] END
FROM bid
WHERE regexp_match(url, '(&|^)channel_id=([^&]*)')[2] IS NOT NULL
    OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu');
