-- What `hits` keeps of the rows of a day, said a second time, the first being `store/unlink.py`: no visit, no step, no
-- seconds; and the day instead of the hour where fewer than $k visits saw a page in that hour. Robots have no visits, so
-- their rows are counted. Reads the view `hot` and the parameter $k.

WITH crowds AS (
    SELECT time, site, route, bot = '' AS is_person, count(DISTINCT visit) AS visits, count(*) AS requests
    FROM hot
    GROUP BY ALL
)

SELECT
    hot.* EXCLUDE (visit, step, elapsed_s, is_pageview) REPLACE (
        CASE WHEN CASE WHEN is_person THEN visits ELSE requests END >= $k
            THEN hot.time
            ELSE hot.date::TIMESTAMP
        END AS time
    )
FROM hot JOIN crowds
    ON crowds.time = hot.time AND crowds.site = hot.site AND crowds.route = hot.route
    AND crowds.is_person = (hot.bot = '')
