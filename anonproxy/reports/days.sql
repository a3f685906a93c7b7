-- Visits day by day (UTC)
SELECT date AS day, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'total' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY date
ORDER BY date
