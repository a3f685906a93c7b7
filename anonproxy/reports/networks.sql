-- Networks
-- From inside the building or outside, by the networks that the configuration names.
-- dimension: network_class
SELECT value AS network_class, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'network_class' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, network_class
