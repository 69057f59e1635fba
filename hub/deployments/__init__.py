"""Which device should have which version: filters, deployments, assignments and what is published of them."""
