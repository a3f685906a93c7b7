-- Exit pages
-- With which page visits end.
-- dimension: exit
SELECT value AS page, sum(visits) AS visits
FROM daily
WHERE dimension = 'exit' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, page
