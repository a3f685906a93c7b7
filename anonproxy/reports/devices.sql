-- Devices
-- What visitors hold in their hands, or have on their desks.
-- dimension: device
SELECT value AS device, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'device' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, device
