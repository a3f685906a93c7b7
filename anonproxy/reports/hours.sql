-- Hours
-- At which hours (UTC) the site is used. A visit counts in each hour in which it was there.
-- dimension: hour
SELECT value AS hour, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'hour' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY hour
