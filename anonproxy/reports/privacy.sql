-- What is hidden
-- How many requests of people stand in the store without what could single somebody out.
-- weight: requests
WITH days AS (
    SELECT
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
sums AS (
    SELECT
        sum(unlisted) AS unlisted,
        sum(redacted) AS redacted,
        sum(unmatched) AS unmatched,
        sum(networks) AS networks,
        sum(referrers) AS referrers,
        sum(campaigns) AS campaigns,
        sum(CASE WHEN linked > 0 THEN requests - linked ELSE 0 END) AS unlinked,
        sum(CASE WHEN linked = 0 THEN requests ELSE 0 END) AS forgotten
    FROM days
)

SELECT hidden, requests
FROM (
    SELECT 'page: too few had opened it' AS hidden, unlisted AS requests FROM sums
    UNION ALL SELECT 'page: could have named somebody', redacted FROM sums
    UNION ALL SELECT 'page: the site has no such page', unmatched FROM sums
    UNION ALL SELECT 'network: too few shared it, or none is kept', networks FROM sums
    UNION ALL SELECT 'referrer: too few came from there', referrers FROM sums
    UNION ALL SELECT 'campaign: too few had it', campaigns FROM sums
    UNION ALL SELECT 'visit: opted out, or a page for children or of a sensitive kind', unlinked FROM sums
    UNION ALL SELECT 'visit: forgotten, its two days are over', forgotten FROM sums
) AS reasons
WHERE requests > 0
ORDER BY requests DESC, hidden
