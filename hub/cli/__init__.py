"""The fleet command line `skerry`: it talks to a hub over HTTPS and holds people's keys; it opens no database.

`main` puts the commands together, `session` gives every command its options, output and errors, `client` speaks HTTP.
Modules stay cheap to import: what only one command needs is imported where it is used.
"""
