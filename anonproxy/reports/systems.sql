-- Operating systems
-- What the site must work with. Families without versions.
-- dimension: os
SELECT value AS system, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'os' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, system
