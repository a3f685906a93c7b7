-- Channels
-- How visitors come: directly, by search, by social networks, by mail. All pages of a visit count for its channel.
-- A visit that goes on after a login or a pause came from the site itself; it is left out.
-- dimension: channel
SELECT value AS channel, sum(visits) AS visits, sum(pageviews) AS pageviews
FROM daily
WHERE dimension = 'channel' AND value <> 'internal' AND date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY value
ORDER BY visits DESC, pageviews DESC, channel
