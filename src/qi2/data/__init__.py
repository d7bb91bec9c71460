"""Data curation (report section 2): sources, shards, filters, per-stage manifests."""
