-- Which pages people look at
SELECT value AS page, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'page' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, page
