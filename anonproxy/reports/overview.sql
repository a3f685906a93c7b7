-- How much the site is used
SELECT
    coalesce(sum(visits), 0) AS visits,
    coalesce(sum(pageviews), 0) AS pageviews,
    round(sum(pageviews) / nullif(sum(visits), 0), 1) AS pages_per_visit,
    round(100.0 * sum(bounces) / nullif(sum(visits), 0), 0) AS bounce_percent,
    round(sum(seconds) / nullif(sum(visits), 0), 0) AS seconds_per_visit
FROM daily
WHERE dimension = 'total' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
