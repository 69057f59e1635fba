"""What hub and devices agree on in federated training."""
