-- What the site answered to people
SELECT value AS status, sum(hits) AS hits, sum(visits) AS visits
FROM daily
WHERE dimension = 'status' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY hits DESC, status
