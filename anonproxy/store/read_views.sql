-- What a reader of the store sees, over `hot` and the settled files. `hot_daily` counts `hot` as `daily` is counted.

CREATE VIEW hits AS
FROM hot
UNION ALL BY NAME
SELECT * REPLACE (time::TIMESTAMP AS time), is_pageview(method, status, kind) AS is_pageview
FROM settled_hits;

CREATE VIEW daily AS
FROM settled_daily
UNION ALL BY NAME
FROM hot_daily;

CREATE VIEW vocabulary AS
FROM settled_vocabulary;
