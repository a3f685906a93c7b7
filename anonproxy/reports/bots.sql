-- Robots
-- Which sorts of robots came. They count nowhere else.
-- dimension: bot
SELECT value AS robot, sum(hits) AS requests
FROM daily
WHERE dimension = 'bot' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY requests DESC, robot
