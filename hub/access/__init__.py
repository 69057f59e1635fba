"""Who may do what: roles and permissions as data, API tokens hashed at rest."""
