"""What the counters of the fleet say: drift, data quality, estimated and measured performance."""
