-- What `daily` keeps of rows, said a second time: the store counts with columns of numbers (`store/count.py`), and this
-- with nothing but SQL. Reads the view `hot` and the parameter $k, gives the columns of `daily`.

WITH
-- Robots are counted in a dimension of their own; everything else is about people.
people AS (SELECT * FROM hot WHERE bot = ''),

-- A visit belongs to the date of its first page, whose row also tells how it came. One that never reached a page
-- (a broken link from elsewhere) belongs to the date of its first row. What a later day sees of a visit that began
-- before it doesn't begin anew: its steps go on.
visits AS (
    SELECT
        site,
        visit,
        coalesce(min(date) FILTER (is_pageview AND step = 1), min(date) FILTER (step = 0 AND elapsed_s = 0)) AS date,
        min(route)       FILTER (is_pageview AND step = 1) AS entry,
        min(referrer)    FILTER (is_pageview AND step = 1) AS referrer,
        min(channel)     FILTER (is_pageview AND step = 1) AS channel,
        min(campaign)    FILTER (is_pageview AND step = 1) AS campaign,
        arg_max(route, (step, elapsed_s, route)) FILTER (is_pageview) AS exit,
        (count(*) FILTER (is_pageview) = 1)::INTEGER AS bounce,
        max(elapsed_s) AS seconds
    FROM people
    WHERE visit IS NOT NULL
    GROUP BY site, visit
),

-- Each row as one line for each dimension it counts in; UNPIVOT leaves nulls out.
counted AS (
    UNPIVOT (
        SELECT
            people.date,
            people.site,
            visits.visit,
            people.is_pageview,
            visits.bounce,
            visits.seconds,
            '' AS total,
            CASE WHEN people.is_pageview THEN people.route END AS page,
            CASE WHEN people.is_pageview AND people.kind = 'search' THEN people.route END AS search,
            CASE WHEN people.is_pageview AND people.kind = 'item' THEN people.route END AS item,
            CASE WHEN people.is_pageview AND people.kind = 'download' THEN people.route END AS download,
            CASE WHEN people.status IN (404, 410) THEN people.referrer END AS broken,
            CASE WHEN people.status >= 500 THEN people.route END AS failing,
            people.kind,
            coalesce(visits.referrer, nullif(people.referrer, '(internal)'), '(other)') AS referrer,
            coalesce(visits.channel, nullif(people.channel, 'internal'), '(other)') AS channel,
            coalesce(visits.campaign, people.campaign) AS campaign,
            people.country,
            people.network_class,
            people.browser,
            people.os,
            people.device,
            people.language,
            strftime(people.time, '%H') AS hour,
            people.status::VARCHAR AS status
        FROM people LEFT JOIN visits USING (date, site, visit)
    )
    ON total, page, search, item, download, broken, failing, kind, referrer, channel, campaign, country, network_class,
       browser, os, device, language, hour, status
    INTO NAME dimension VALUE value
),

-- A visit counts once in a cell, however many of its rows are there.
by_visit AS (
    SELECT
        date, site, dimension, value, visit,
        count(*) AS hits,
        count(*) FILTER (is_pageview) AS pageviews,
        any_value(bounce) AS bounce,
        any_value(seconds) AS seconds
    FROM counted
    GROUP BY ALL
),

cells AS (
    SELECT
        date, site, dimension, value,
        sum(hits) AS hits,
        sum(pageviews) AS pageviews,
        count(visit) AS visits,
        coalesce(sum(bounce), 0) AS bounces,
        coalesce(sum(seconds), 0) AS seconds
    FROM by_visit
    GROUP BY ALL

    UNION ALL
    SELECT date, site, dimension, value, count(*), count(*), count(*), sum(bounce), sum(seconds)
    FROM (UNPIVOT (FROM visits WHERE date IS NOT NULL) ON entry, exit INTO NAME dimension VALUE value)
    GROUP BY ALL

    UNION ALL
    SELECT date, site, 'bot', bot, count(*), 0, 0, 0, 0
    FROM hot
    WHERE bot <> ''
    GROUP BY ALL
),

-- Thin cells are folded into (other). Robots have no visits, so their hits decide.
weighed AS (
    SELECT
        *,
        CASE dimension WHEN 'bot' THEN hits ELSE visits END AS weight,
        dimension <> 'total' AND (weight < $k OR value = '(other)') AS is_thin,
        dimension IN ('search', 'item', 'download') AS is_part_of_page
    FROM cells
),

-- One folded cell alone could be found by subtraction or by elimination: the smallest of the rest goes with it.
folded AS (
    SELECT
        *,
        count(*) FILTER (is_thin) OVER dimension_cells = 1
            AND count(*) FILTER (is_thin AND value <> '(other)') OVER dimension_cells = 1
            AND row_number() OVER (PARTITION BY date, site, dimension, is_thin ORDER BY weight, value) = 1
            AND dimension <> 'total' AND NOT is_part_of_page AS is_companion
    FROM weighed
    WINDOW dimension_cells AS (PARTITION BY date, site, dimension)
),

-- Searches, items and downloads name what `page` names, and gather no rest: laid beside the rest of `page` it would tell
-- of what is hidden there.
told AS (
    FROM folded
    WHERE NOT is_part_of_page OR NOT is_thin AND (date, site, value) IN (
        SELECT (date, site, value) FROM folded WHERE dimension = 'page' AND NOT is_thin AND NOT is_companion
    )
)

SELECT
    date,
    site,
    dimension,
    CASE WHEN is_thin OR is_companion THEN '(other)' ELSE value END AS value,
    sum(hits)::BIGINT AS hits,
    sum(pageviews)::BIGINT AS pageviews,
    sum(visits)::BIGINT AS visits,
    sum(bounces)::BIGINT AS bounces,
    sum(seconds)::BIGINT AS seconds
FROM told
GROUP BY ALL
