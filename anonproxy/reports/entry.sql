-- Entry pages
-- With which page visits begin, how many end there as well, and how long they last.
-- dimension: entry
SELECT
    value AS page,
    sum(visits) AS visits,
    round(100.0 * sum(bounces) / nullif(sum(visits), 0), 0) AS bounce_percent,
    round(1.0 * sum(seconds) / nullif(sum(visits), 0), 0) AS seconds_per_visit
FROM daily
WHERE dimension = 'entry' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, page
