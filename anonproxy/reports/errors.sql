-- Errors
-- What didn't work for people: answers of 400 and above. Rarer ones are in (other) of the status codes.
-- dimension: status
SELECT value AS status, sum(hits) AS requests, sum(visits) AS visits
FROM daily
WHERE dimension = 'status' AND value >= '400' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY requests DESC, status
