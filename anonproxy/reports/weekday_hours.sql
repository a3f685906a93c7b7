-- Hours of the week
-- When the site is busy: each hour (UTC) of each day of the week.
-- dimension: hour
SELECT strftime(date, '%A') AS weekday, value AS hour, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'hour' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY weekday, value
ORDER BY min(datediff('day', DATE '1900-01-01', date) % 7), hour
