-- Sites that link here
-- Which sites visitors come from. All pages of a visit count for the site it came from.
-- A visit that goes on after a login or a pause came from the site itself; it is left out.
-- dimension: referrer
SELECT value AS referrer, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'referrer' AND value <> '(internal)' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, referrer
