-- Languages
-- Which language visitors prefer, as their browsers say; rarer ones than the configured are other.
-- dimension: language
SELECT value AS language, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'language' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, language
