"""Who judges the chunks of a scan: this process, the ranks of a job on one host, or a Ray cluster."""
