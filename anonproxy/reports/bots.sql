-- Which robots came
SELECT value AS robot, sum(hits) AS hits
FROM daily
WHERE dimension = 'bot' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY hits DESC, robot
