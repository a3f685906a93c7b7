-- Campaigns
-- Which newsletters and posters bring visitors: the campaign in the link that they followed.
-- dimension: campaign
SELECT value AS campaign, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'campaign' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, campaign
