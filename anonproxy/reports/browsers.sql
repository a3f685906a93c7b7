-- Browsers
-- What the site must work with. Families without versions.
-- dimension: browser
SELECT value AS browser, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'browser' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, browser
