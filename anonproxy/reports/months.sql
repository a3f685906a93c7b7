-- Months
-- Visits and page views, month by month.
-- dimension: total
SELECT strftime(date, '%Y-%m') AS month, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'total' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY month
ORDER BY month
