-- Failing pages
-- Which pages the site couldn't give (500 and above).
-- dimension: failing
SELECT value AS page, sum(hits) AS requests, sum(visits) AS visits
FROM daily
WHERE dimension = 'failing' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY requests DESC, page
