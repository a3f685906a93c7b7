-- How much the site is used
WITH totals AS (
    SELECT
        coalesce(sum(visits) FILTER (dimension = 'total'), 0) AS visits,
        coalesce(sum(pageviews) FILTER (dimension = 'total'), 0) AS pageviews,
        sum(bounces) FILTER (dimension = 'total') AS bounces,
        sum(seconds) FILTER (dimension = 'total') AS seconds,
        coalesce(sum(hits), 0) AS requests,
        coalesce(sum(hits) FILTER (dimension = 'bot'), 0) AS robot_requests
    FROM daily
    WHERE dimension IN ('total', 'bot') AND date BETWEEN $since AND $until AND site = coalesce($site, site)
)
SELECT
    visits,
    pageviews,
    round(pageviews / nullif(visits, 0), 1) AS pages_per_visit,
    round(100.0 * bounces / nullif(visits, 0), 0) AS bounce_percent,
    round(seconds / nullif(visits, 0), 0) AS seconds_per_visit,
    requests,
    robot_requests
FROM totals
