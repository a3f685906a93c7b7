-- Items
-- Which pages of single items people look at: titles, events, articles. Which item it was is never written down.
-- dimension: item
SELECT value AS page, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'item' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, page
