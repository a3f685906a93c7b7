-- Overview
-- How much the site is used: visits, page views, pages of a visit, visits of one page only, and how long visits last.
-- dimension: total
WITH totals AS (
    SELECT
        coalesce(sum(visits) FILTER (WHERE dimension = 'total'), CASE WHEN count(*) = 0 THEN 0 END) AS visits,
        sum(pageviews) FILTER (WHERE dimension = 'total') AS pageviews,
        sum(bounces) FILTER (WHERE dimension = 'total') AS bounces,
        sum(seconds) FILTER (WHERE dimension = 'total') AS seconds,
        coalesce(sum(hits), 0) AS requests,
        coalesce(sum(hits) FILTER (WHERE dimension = 'bot'), 0) AS robot_requests
    FROM daily
    WHERE dimension IN ('total', 'bot') AND date BETWEEN $since AND $until AND site = coalesce($site, site)
)
SELECT
    visits,
    coalesce(pageviews, 0) AS pageviews,
    round(1.0 * pageviews / nullif(visits, 0), 1) AS pages_per_visit,
    round(100.0 * bounces / nullif(visits, 0), 0) AS bounce_percent,
    round(1.0 * seconds / nullif(visits, 0), 0) AS seconds_per_visit,
    requests,
    robot_requests
FROM totals
