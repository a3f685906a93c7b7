-- Days of the week
-- On which days of the week the site is used. With the number of such days in the period that had visitors.
-- dimension: total
SELECT strftime(date, '%A') AS weekday, sum(visits) AS visits, sum(pageviews) AS pageviews, count(DISTINCT date) AS days
FROM daily
WHERE dimension = 'total' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY weekday
ORDER BY min(datediff('day', DATE '1900-01-01', date) % 7)
