-- Countries
-- Where visitors are, by the widest network that may be stored.
-- dimension: country
SELECT value AS country, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'country' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, country
