-- Rows as every query here sees them. Times become timestamps without a zone, in UTC: Python can fetch those without
-- one more library. `hot_rows` has the hot columns and `date`.

CREATE VIEW hot AS
SELECT * REPLACE (time::TIMESTAMP AS time), is_pageview(method, status, kind) AS is_pageview
FROM hot_rows;
