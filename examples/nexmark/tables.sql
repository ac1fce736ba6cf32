-- The stream of an auction house, made up from a seed: who registers, what is put up for auction, who bids.
-- NEXMARK_EVENTS is a number, or 'endless'; NEXMARK_RATE is in events a second, or 'max'.

CREATE TABLE person (
    id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP(3), extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (
    connector = 'nexmark', events_of = 'person',
    events = '${NEXMARK_EVENTS:-100000}', event_rate = '${NEXMARK_RATE:-max}', event_delay = '${NEXMARK_DELAY:-1 ms}'
);

CREATE TABLE auction (
    id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP(3),
    expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (
    connector = 'nexmark', events_of = 'auction',
    events = '${NEXMARK_EVENTS:-100000}', event_rate = '${NEXMARK_RATE:-max}', event_delay = '${NEXMARK_DELAY:-1 ms}'
);

CREATE TABLE bid (
    auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (
    connector = 'nexmark', events_of = 'bid',
    events = '${NEXMARK_EVENTS:-100000}', event_rate = '${NEXMARK_RATE:-max}', event_delay = '${NEXMARK_DELAY:-1 ms}'
);
