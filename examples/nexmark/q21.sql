-- Add channel id: a number for the channel, from its name or from the page.
CREATE TABLE q21 (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, channel_id TEXT)
WITH (connector = '${NEXMARK_SINK:-stdout}');

INSERT INTO q21
SELECT
    auction, bidder, price, channel,
    CASE
        WHEN lower(channel) = 'apple' THEN '0'
        WHEN lower(channel) = 'google' THEN '1'
        WHEN lower(channel) = 'facebook' THEN '2'
        WHEN lower(channel) = 'baidu' THEN '3'
        ELSE regexp_extract(url, '(&|^)channel_id=([^&]*)', 2)
    END
FROM bid
WHERE regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
    OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu');
