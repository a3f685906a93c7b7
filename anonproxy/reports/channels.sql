-- How visitors come
SELECT value AS channel, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'channel' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, channel
