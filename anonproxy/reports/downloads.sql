-- Downloads
-- Which files people take home.
-- dimension: download
SELECT value AS page, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'download' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, page
