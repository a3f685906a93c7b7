-- Searches
-- On which pages people search, and how often. What they search for is never written down.
-- dimension: search
SELECT value AS page, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'search' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, page
