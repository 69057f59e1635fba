"""Models, versions, bundles and aliases: what there is, where it comes from, and what may be thrown away."""
