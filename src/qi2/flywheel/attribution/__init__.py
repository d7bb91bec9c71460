"""Which track a failure belongs to, by tests that are run (report section 2.4, stage 2)."""
