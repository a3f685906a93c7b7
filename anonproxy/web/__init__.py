"""The dashboard: pages made on the server, without a script, from reports that name nobody."""
