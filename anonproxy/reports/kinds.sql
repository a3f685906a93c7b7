-- Kinds of pages
-- What people do: pages, searches, items, accounts, downloads; and what loads by itself, which is no page view.
-- dimension: kind
SELECT value AS kind, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'kind' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, kind
