-- Which sites visitors come from
SELECT value AS referrer, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'referrer' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, referrer
