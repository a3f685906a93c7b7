-- What is hidden
-- How many requests of people stand in the store without what could single somebody out.
-- order: requests
WITH days AS (
    SELECT
        date,
        site,
        count(*) AS requests,
        count(visit) AS linked,
        count(*) FILTER (WHERE route = '(unlisted)') AS unlisted,
        count(*) FILTER (WHERE route = '(redacted)') AS redacted,
        count(*) FILTER (WHERE route = '(unmatched)') AS unmatched,
        count(*) FILTER (WHERE network IS NULL) AS networks,
        count(*) FILTER (WHERE referrer = '(other)') AS referrers,
        count(*) FILTER (WHERE campaign = '(other)') AS campaigns
    FROM hits
    WHERE bot = '' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
    GROUP BY date, site
),

-- Visits are known for two days; whoever has none there has opted out, or was on a page that nobody should be tied to.
reasons AS (
    SELECT date, site, 'page: too few had opened it' AS hidden, unlisted AS requests FROM days
    UNION ALL SELECT date, site, 'page: could have named somebody', redacted FROM days
    UNION ALL SELECT date, site, 'page: the site has no such page', unmatched FROM days
    UNION ALL SELECT date, site, 'network: too few shared it, or none is kept', networks FROM days
    UNION ALL SELECT date, site, 'referrer: too few came from there', referrers FROM days
    UNION ALL SELECT date, site, 'campaign: too few had it', campaigns FROM days
    UNION ALL
    SELECT date, site, 'visit: opted out, or a page for children or of a sensitive kind', requests - linked FROM days
    WHERE linked > 0
    UNION ALL SELECT date, site, 'visit: forgotten, its two days are over', requests FROM days WHERE linked = 0
)

SELECT date, site, hidden, requests
FROM reasons
WHERE requests > 0
