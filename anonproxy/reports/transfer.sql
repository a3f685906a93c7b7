-- Transfer
-- What is sent, to people and to robots. Lengths are kept as powers of two, so the bytes are right within a tenth.
-- order: bytes
SELECT date, site, kind, count(*) AS requests, CAST(round(sum(size_bytes) * 1.44, 0) AS BIGINT) AS bytes
FROM hits
WHERE date BETWEEN $since AND $until AND site = coalesce($site, site)
GROUP BY date, site, kind
