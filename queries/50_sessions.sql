-- What became of each visit: one row of the warehouse when a session's window closes.
--
-- A window closes ten minutes after the session's last event, in event time. Visitors of a shop that sells click every
-- few seconds to minutes, and those who go away to compare or to be called to the phone are mostly back within ten; half
-- an hour, as web analytics has it, would keep three times the sessions in memory and tell of an abandoned cart when it
-- is too late to ask why. A session whose events go on after such a gap gets a second window, and that row replaces the
-- first: what counts is how it ended.

-- Rows without a session, as the CRM's are, belong to none.
CREATE VIEW session_events AS
SELECT "timestamp", session_id, customer_id, interaction_type AS kind, channel, product_id,
       CAST(NULL AS DECIMAL(12, 2)) AS cart_total
FROM user_behavior WHERE session_id IS NOT NULL
UNION ALL
SELECT "timestamp", session_id, customer_id, event_type, CAST(NULL AS TEXT), CAST(NULL AS BIGINT),
       CAST(NULL AS DECIMAL(12, 2))
FROM searches WHERE session_id IS NOT NULL
UNION ALL
SELECT "timestamp", session_id, customer_id, event_type, CAST(NULL AS TEXT), CAST(NULL AS BIGINT), cart_total
FROM cart_events WHERE session_id IS NOT NULL;

-- Grouped by the session alone, which is the key: whatever an event says of the customer, a session has one row.
-- Ties in time are decided by the values, so that the result does not depend on what was read first.
CREATE VIEW sessions AS
SELECT
    session(INTERVAL '10 minutes') AS window,
    session_id,
    first_value(customer_id ORDER BY "timestamp", customer_id) FILTER (WHERE customer_id IS NOT NULL) AS customer_id,
    count(*) AS events,
    count(*) FILTER (WHERE kind IN ('page_view', 'product_view')) AS views,
    count(*) FILTER (WHERE kind = 'search') AS searches,
    count(*) FILTER (WHERE kind = 'cart_event') AS cart_changes,
    count(*) FILTER (WHERE kind = 'purchase') AS purchases,
    count(*) FILTER (WHERE kind = 'cart_abandonment') AS abandonments,
    last_value(cart_total ORDER BY "timestamp", cart_total) FILTER (WHERE cart_total IS NOT NULL) AS cart_total,
    first_value(channel ORDER BY "timestamp", channel) FILTER (WHERE channel IS NOT NULL) AS channel,
    coalesce(array_agg(DISTINCT product_id ORDER BY product_id) FILTER (WHERE product_id IS NOT NULL), []) AS products,
    min("timestamp") AS first_event,
    max("timestamp") AS last_event
FROM session_events
GROUP BY window, session_id;

-- session_data is a JSON object there.
CREATE TABLE customer_sessions (
    session_id TEXT NOT NULL,
    customer_id BIGINT,
    session_data STRUCT<events BIGINT, views BIGINT, searches BIGINT, cart_changes BIGINT, purchases BIGINT,
                        cart_total DECIMAL(12, 2), channel TEXT, products BIGINT[], first_event TIMESTAMP,
                        last_event TIMESTAMP, duration_seconds DECIMAL(12, 3)>,
    outcome TEXT,
    "timestamp" TIMESTAMP,
    PRIMARY KEY (session_id)
) WITH (
    connector = 'postgres',
    url = '${DWH_URL:-embedded}',
    migrate = 'warehouse'
);

INSERT INTO customer_sessions
SELECT
    session_id,
    customer_id,
    named_struct(
        'events', events, 'views', views, 'searches', searches, 'cart_changes', cart_changes, 'purchases', purchases,
        'cart_total', cart_total, 'channel', channel, 'products', products,
        'first_event', first_event, 'last_event', last_event,
        'duration_seconds',
        CAST(extract(EPOCH FROM last_event) - extract(EPOCH FROM first_event) AS DECIMAL(12, 3))
    ),
    CASE WHEN purchases > 0 THEN 'conversion' WHEN abandonments > 0 THEN 'cart_abandonment' ELSE 'bounce' END,
    last_event
FROM sessions;
