-- Broken links
-- Which sites have links here that lead nowhere (404, 410). (internal) is the site itself, (direct) a typed or kept address.
-- The address that was asked for is never written down: the site doesn't have it, so it may be anything.
-- dimension: broken
SELECT value AS referrer, sum(hits) AS requests, sum(visits) AS visits
FROM daily
WHERE dimension = 'broken' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY requests DESC, referrer
