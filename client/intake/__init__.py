"""The parts of ``sarco-site ingest``: from a hospital's folders and table to a site's data."""
