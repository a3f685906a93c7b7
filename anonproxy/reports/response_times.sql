-- Response times
-- How long people wait until a page is there: from so many milliseconds up to the next row's.
-- order: from_ms
SELECT date, site, CAST(duration_ms AS VARCHAR) AS from_ms, count(*) AS requests
FROM hits
WHERE bot = '' AND is_pageview AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY date, site, duration_ms
