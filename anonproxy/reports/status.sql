-- Status codes
-- What the site answered to people.
-- dimension: status
SELECT value AS status, sum(hits) AS requests, sum(visits) AS visits
FROM daily
WHERE dimension = 'status' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY requests DESC, status
