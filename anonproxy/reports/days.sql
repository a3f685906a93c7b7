-- Days
-- Visits and page views, day by day (UTC).
-- dimension: total
SELECT date AS day, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'total' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY date
ORDER BY date
